# SPDX-License-Identifier: GPL-2.0
"""Re-registration, and another thread that ends the new region before it returns."""
import os
import threading
import traceback
import unittest

import pyverbs.enums as e
from pyverbs.pd import PD
from pyverbs.device import Context
from pyverbs.mr import MR

import stops
from rdma import ODP, PAGE, Buffer

REREG_MR, DEREG_MR = 11, 13         # IB_USER_VERBS_CMD_*


def command(number, body, out_words=0):
    return (number.to_bytes(4, "little") + ((8 + len(body)) // 4).to_bytes(2, "little") +
            out_words.to_bytes(2, "little") + body)


def uverbs():
    """The descriptor of the device that was opened last."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("/dev/infiniband/uverbs"):
                found.append(int(name))
        except FileNotFoundError:
            pass
    return max(found)


class Reregistration(unittest.TestCase):
    def test_regress_the_new_region_is_not_read_when_it_may_be_gone(self):
        """In a process of its own: the library still knows a region that is gone, and
        falls over it when it cleans up."""
        stops.need(self)
        child = os.fork()
        if not child:
            status = 1
            try:
                self.reregister()
                status = 0
            except BaseException:       # pylint: disable=broad-except
                traceback.print_exc()
            os._exit(status)
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def reregister(self):
        """What it read is seen by KASAN."""
        pd = PD(Context(name="mlx5_0"))
        fd = uverbs()
        buffer, answer = Buffer(4 * PAGE), Buffer(PAGE)
        mr = MR(pd, buffer.length, ODP, address=buffer.address)
        handle = mr.handle.to_bytes(4, "little")
        flags = e.IBV_REREG_MR_CHANGE_TRANSLATION
        words = (buffer.address, buffer.length, buffer.address, 0)
        again = (answer.address.to_bytes(8, "little") + handle + flags.to_bytes(4, "little") +
                 b"".join(word.to_bytes(8, "little") for word in words))
        written = []
        thread = threading.Thread(target=lambda: written.append(
            os.write(fd, command(REREG_MR, again, 2))))
        stops.stop("rdma_lookup_put_uobject")
        thread.start()
        stops.reached()                 # it gives the old region's handle back
        os.write(fd, command(DEREG_MR, handle))
        self.assertEqual(written, [])
        stops.go()
        thread.join()
        self.assertEqual(len(written), 1)
        self.assertNotIn(answer[0:4], (bytes(4), mr.lkey.to_bytes(4, "little")))
