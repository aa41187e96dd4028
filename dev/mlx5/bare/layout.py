# SPDX-License-Identifier: GPL-2.0
"""Structures of the adapter's programming interface, by the names that the kernel's
mlx5_ifc.h gives their fields.  It describes a structure as one byte a bit, so the size
of an array is a width, and the sum of those before it an offset.

    layout = Layout(path)
    command = layout.new("create_cq_in", cq_context__uar_page=8)
    layout.get("create_cq_out", answer, "cqn")

"__" goes into a structure within a structure.
"""
import re

TOKEN = re.compile(r"\b(?:struct|union)\s+mlx5_ifc_(\w+)|\b(u8|struct|union)\b|(\w+)|([{};])|"
                   r"\[(\w*)\]")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|^#[^\n]*(?:\\\n[^\n]*)*", re.S | re.M)
START = re.compile(r"^(struct|union)\s+mlx5_ifc_(\w+)\s*\{", re.M)


class Layout:
    def __init__(self, path):
        with open(path) as file:
            text = COMMENT.sub("", file.read())
        self.types = {}             # name -> (fields: name -> (offset, width, type), width)
        for found in START.finditer(text):
            self.types[found[2].removesuffix("_bits")] = self.body(
                TOKEN.finditer(text, found.end()), found[1] == "union")

    def body(self, tokens, union):
        """The members up to the closing brace: {name: (offset, width, type)} and the width."""
        fields, at, longest = {}, 0, 0
        inner = name = None
        width = count = 1
        for token in tokens:
            kind, plain, word, mark, size = token.groups()
            if mark == "{":
                inner, width = self.body(tokens, plain_union)
            elif mark == "}":
                return fields, max(longest, at)
            elif kind is not None:
                inner, width = self.types.get(kind.removesuffix("_bits"), ({}, 0))
            elif plain:
                inner, width, plain_union = None, 1, plain == "union"
            elif word:
                name = word
            elif size is not None:
                # An open array, or one whose size has a name: it is the last field, so 0 will do.
                count *= int(size, 0) if size[:1].isdigit() else 0
            elif mark == ";":
                width *= count
                if name:
                    fields[name] = (at, width, inner)
                else:                   # an anonymous union: its members are ours
                    fields |= {inside: (at + off, wide, deep)
                               for inside, (off, wide, deep) in (inner or {}).items()}
                longest = max(longest, width)
                at += 0 if union else width
                name, count = None, 1
        raise ValueError("a structure has no end")

    def bytes(self, kind):
        return self.types[kind][1] // 8

    def place(self, kind, path):
        """(offset, width) in bits."""
        fields, at, width = self.types[kind][0], 0, 0
        for name in path.split("__"):
            off, width, fields = fields[name]
            at += off
        return at, width

    def put(self, kind, data, path, value):
        at, width = self.place(kind, path)
        if value >> width:
            raise ValueError(f"{kind}.{path} has {width} bits, not room for {value:#x}")
        whole, shift = int.from_bytes(data, "big"), len(data) * 8 - at - width
        whole = whole & ~(((1 << width) - 1) << shift) | value << shift
        data[:] = whole.to_bytes(len(data), "big")

    def get(self, kind, data, path):
        at, width = self.place(kind, path)
        return int.from_bytes(data, "big") >> (len(data) * 8 - at - width) & (1 << width) - 1

    def new(self, kind, **values):
        data = bytearray(self.bytes(kind))
        for path, value in values.items():
            self.put(kind, data, path, value)
        return data
