# SPDX-License-Identifier: GPL-2.0
"""The call sites that dev/gate/checks/callsites.list declares."""
import collections
import os
import sys

from lib.common import ROOT

PATH = os.path.join(ROOT, "dev/gate/checks/callsites.list")
Site = collections.namedtuple("Site", "file function event form was ends stock reason")


def load():
    sites = []
    for number, line in enumerate(open(PATH), 1):
        fields, _, reason = line.partition("#")
        words = fields.split()
        if not words:
            continue
        more = dict(word.partition("=")[::2] for word in words[4:])
        if len(words) < 4 or words[3] not in ("scoped", "explicit") or set(more) - {"was", "ends", "stock"} \
                or (words[3] == "explicit") != bool(reason.strip()):
            sys.exit(f"{PATH}:{number}: want 'file function event scoped|explicit "
                     f"[was=f] [ends=f] [# reason]', a reason with explicit only")
        file, function, event, form = words[:4]
        sites.append(Site(file, function, event, form, more.get("was", function),
                          more.get("ends", function), more.get("stock", event),
                          reason.strip()))
    return sites
