#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Turn a kernel tarball (on stdin, uncompressed) into a git fast-import stream.

One commit, every file of the tarball, ignore rules not consulted.  Unpacking
the tree and `git add` take minutes and 90,000 loose objects; this takes the
time of the decompressor.  Name and date are fixed, so that the same tarball
gives the same commit on every machine.
"""
import sys
import tarfile


def main():
    message = sys.argv[1].encode() + b"\n"
    out = sys.stdout.buffer
    entries, mark = [], 0
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
        for member in tar:
            path = member.name.partition("/")[2]
            if member.issym():
                mode, data = "120000", member.linkname.encode()
            elif member.isfile():
                mode = "100755" if member.mode & 0o100 else "100644"
                data = tar.extractfile(member).read()
            else:
                continue
            mark += 1
            out.write(b"blob\nmark :%d\ndata %d\n" % (mark, len(data)))
            out.write(data + b"\n")
            entries.append((mode, mark, path))
    if not entries:
        sys.exit("tar2git: empty archive")
    who = b"Debian Kernel Team <kernel@debian.invalid> 1735689600 +0000\n"
    out.write(b"commit refs/heads/base\nauthor " + who + b"committer " + who)
    out.write(b"data %d\n%s" % (len(message), message))
    for mode, number, path in entries:
        out.write(b'M %s :%d %s\n' % (mode.encode(), number, path.encode()))


main()
