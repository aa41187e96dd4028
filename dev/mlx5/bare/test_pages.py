# SPDX-License-Identifier: GPL-2.0
"""Pages that the firmware borrows: asked for, given, asked for again, and taken back."""
import struct

from adapter import (BAD_PARAM, BAD_RES_STATE, BEGIN, BOOT, GIVE, PAGE_REQUEST, Adapter, Key,
                     Refused, pas)
from bench import Bench

BAD_STATE = 4


class Pages(Bench):
    MEANT = ()

    def asked(self):
        """What the events of late ask for: pages to give, or to take back if less than 0."""
        self.machine.step(10 ** 9)
        return [struct.unpack_from(">i", event[2], 4)[0] for event in self.dev.eq.events()
                if event[0] == PAGE_REQUEST]

    def held(self):
        return self.dev.counter("pages")

    def end(self):
        """As the driver ends: until nothing is left."""
        for _ in range(1000):
            if not self.held():
                return
            self.dev.take_back(50)
        self.fail("it never returns all of them")

    def test_it_asks_in_two_stages_and_does_not_begin_without(self):
        self.dev.command("ENABLE_HCA")
        for stage in (BOOT, BEGIN):
            self.assertEqual(self.dev.status("INIT_HCA"), BAD_STATE)
            count = self.dev.command("QUERY_PAGES", op_mod=stage)["num_pages"]
            self.assertGreater(count, 0)
            self.dev.lend(count)
            self.assertEqual(self.dev.command("QUERY_PAGES", op_mod=stage)["num_pages"], 0)
        self.dev.command("INIT_HCA")

    def test_it_returns_nothing_that_it_needs(self):
        self.dev.start()
        self.assertEqual(self.dev.take_back(50), ())

    def test_it_ends_when_all_are_taken_back(self):
        self.dev.start()
        self.dev.command("TEARDOWN_HCA")
        self.assertEqual(self.dev.status("DISABLE_HCA"), BAD_RES_STATE)
        self.end()
        self.dev.command("DISABLE_HCA")
        self.dev.start()

    def test_it_returns_each_page_once_and_a_part_at_a_time(self):
        self.dev.start()
        self.dev.command("TEARDOWN_HCA")
        count, back = self.held(), []
        while self.held():
            back.append(self.dev.take_back(20))
            self.assertLessEqual(len(back[-1]), 11)
        pages = [page for some in back for page in some]
        self.assertEqual((len(pages), len(set(pages))), (count, count))

    def test_a_page_is_lent_once_and_is_one(self):
        self.dev.start()
        first = self.dev.lend(1)
        for page in (first, first + 8, 0):
            before = self.held()
            self.assertEqual(self.dev.status("MANAGE_PAGES", pas(self.machine.pages(), page),
                                             op_mod=GIVE, input_num_entries=2), BAD_PARAM)
            self.assertEqual(self.held(), before)

    def test_more_entries_than_came_are_refused(self):
        self.dev.start()
        with self.assertRaises(Refused):
            self.dev.command("MANAGE_PAGES", pas(self.machine.pages()), op_mod=GIVE,
                             input_num_entries=1 << 20)

    def test_it_asks_for_more_and_for_less_when_told_so(self):
        self.dev.start()
        before = self.held()
        self.dev.knob("pages-more", 100)
        self.assertEqual(self.asked(), [100])
        self.assertEqual(self.asked(), [])              # not again before there is an answer
        self.dev.lend(100)
        self.assertEqual(self.asked(), [])
        self.dev.knob("pages-more", 0)
        self.assertEqual(self.asked(), [-100])
        while len(self.dev.take_back(100)) > 1:
            pass
        self.assertEqual(self.held(), before)

    def test_it_asks_for_more_when_objects_need_it(self):
        self.dev.start()
        for _ in range(8):
            Key(self.dev, start=0, count=512 * 512, pages=self.dev.queue, written=0)
        self.assertEqual(self.asked(), [])              # they have nothing written
        pages = [self.dev.queue | 3] * 2048
        for _ in range(64):
            self.dev.command("CREATE_MKEY", pas(*pages), pg_access=1,
                             translations_octword_actual_size=1024,
                             memory_key_mkey_entry__pd=self.dev.pd,
                             memory_key_mkey_entry__translations_octword_size=1024)
        self.assertGreater(sum(self.asked()), 15)

    def test_a_reset_forgets_them(self):
        self.dev.start()
        self.dev.reset()
        self.assertEqual(self.held(), 0)


class Overwritten(Bench):
    MEANT = ("DMA check:",)

    def test_a_page_that_its_owner_used_again_is_reported(self):
        self.dev.start()
        self.dev.command("TEARDOWN_HCA")
        page = self.dev.lend(1)
        self.machine.write(page, b"mine")
        for _ in range(100):
            if page in self.dev.take_back(50):
                break
        self.assertEqual(self.dev.counter("dma-violations"), 1)
        self.assertIn(f"the firmware's page at {page:#x} was written to by another",
                      self.machine.said())


class Health(Bench):
    SYNDROME, SEVERITY = 0x200 + 0x3d, 0x200 + 0x38
    FATAL = 0x100

    def shown(self, dev: Adapter):
        return [self.machine.read(dev.bar + at, 1)[0] for at in (self.SYNDROME, self.SEVERITY)]

    def test_a_syndrome_is_shown_and_no_more(self):
        self.dev.start()
        self.dev.knob("syndrome", 0x7)
        self.assertEqual(self.shown(self.dev), [7, 0])
        self.dev.command("NOP")

    def test_a_fatal_one_asks_for_a_reset_and_commands_are_lost(self):
        self.dev.start()
        self.dev.knob("syndrome", 0x1 | self.FATAL)
        self.assertEqual(self.shown(self.dev), [1, 0x80])
        with self.assertRaises(TimeoutError):
            self.dev.command("NOP")
        self.assertEqual(self.dev.register(0x14) >> 8 & 7, 0)
        self.machine.step(5 * 10 ** 9)
        self.assertEqual(self.shown(self.dev), [0, 0])
        self.assertEqual(self.dev.register(0x14) >> 8 & 7, 1)       # disabled
        self.dev.set_queue()
        self.dev.start()
