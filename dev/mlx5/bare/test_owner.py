# SPDX-License-Identifier: GPL-2.0
"""Objects of one user context are not there for another, and the driver names the owner of
what it changes."""
import struct

from adapter import (BAD_OP, BAD_RES, OK, REQ, WRITE, CompletionQueue, EventQueue, Key, QueuePair,
                     Refused, data, remote)
from bench import Bench


class Context:
    """A user context with one of everything."""

    def __init__(self, dev):
        self.dev = dev
        self.uid = dev.command("CREATE_UCTX")["uid"]
        self.pd = dev.command("ALLOC_PD", uid=self.uid)["pd"]
        self.uar = dev.command("ALLOC_UAR", uid=self.uid)["uar"]
        self.cq = CompletionQueue(dev, uid=self.uid, uar=self.uar)
        self.qp = QueuePair(dev, self.cq, pd=self.pd, uar=self.uar, uid=self.uid)
        self.key = Key(dev, pd=self.pd, uid=self.uid)


class Owner(Bench):
    def setUp(self):
        super().setUp()
        self.dev.start()
        self.one, self.two = Context(self.dev), Context(self.dev)

    def refused(self, make, *args, **options):
        with self.assertRaises(Refused) as refused:
            make(*args, **options)
        return refused.exception.status

    def test_only_the_owner_destroys(self):
        two = self.two
        for uid in (self.one.uid, 0):
            for name, number in (("DESTROY_QP", {"qpn": two.qp.number}),
                                 ("DESTROY_MKEY", {"mkey_index": two.key.index}),
                                 ("DESTROY_CQ", {"cqn": two.cq.number}),
                                 ("DEALLOC_UAR", {"uar": two.uar}), ("DEALLOC_PD", {"pd": two.pd})):
                self.assertNotEqual(self.dev.status(name, uid=uid, **number), OK, (name, uid))
        self.assertEqual(self.dev.status("DESTROY_QP", uid=two.uid, qpn=two.qp.number), OK)
        self.assertEqual(self.dev.status("DESTROY_CQ", uid=two.uid, cqn=two.cq.number), OK)

    def test_only_the_owner_modifies(self):
        for uid in (self.one.uid, 0):
            self.assertEqual(self.dev.status("2ERR_QP", uid=uid, qpn=self.two.qp.number), BAD_RES)
            self.assertEqual(self.dev.status("MODIFY_CQ", uid=uid, cqn=self.two.cq.number), BAD_RES)
        self.assertEqual(self.dev.status("2ERR_QP", uid=self.two.uid, qpn=self.two.qp.number), OK)

    def test_the_driver_looks_at_all_and_a_context_at_its_own(self):
        for name, number in (("QUERY_QP", {"qpn": self.two.qp.number}),
                             ("QUERY_CQ", {"cqn": self.two.cq.number}),
                             ("QUERY_MKEY", {"mkey_index": self.two.key.index})):
            self.assertEqual(self.dev.status(name, uid=self.one.uid, **number), BAD_RES, name)
            self.assertEqual(self.dev.status(name, uid=self.two.uid, **number), OK, name)
            self.assertEqual(self.dev.status(name, **number), OK, name)

    def test_a_queue_pair_takes_nothing_of_another_context(self):
        one, two = self.one, self.two
        for cq, options in ((two.cq, {"pd": one.pd, "uar": one.uar}),
                            (one.cq, {"pd": two.pd, "uar": one.uar}),
                            (one.cq, {"pd": one.pd, "uar": two.uar}),
                            (one.cq, {"pd": one.pd, "uar": self.dev.uar}),
                            (one.cq, {"pd": self.dev.pd, "uar": one.uar})):
            self.assertEqual(self.refused(QueuePair, self.dev, cq, uid=one.uid, **options), BAD_RES)

    def test_a_key_takes_no_domain_of_another_context(self):
        for pd in (self.two.pd, self.dev.pd):
            self.assertEqual(self.refused(Key, self.dev, pd=pd, uid=self.one.uid), BAD_RES)

    def test_a_completion_queue_takes_no_page_of_another_context(self):
        for uar in (self.two.uar, self.dev.uar):
            self.assertTrue(self.refused(CompletionQueue, self.dev, uid=self.one.uid, uar=uar))

    def test_a_completion_queue_takes_no_event_queue_of_the_driver_alone(self):
        one, eq = self.one, EventQueue(self.dev, types=0, uid=0)
        self.assertTrue(self.refused(CompletionQueue, self.dev, uid=one.uid, uar=one.uar,
                                     eqn=eq.number))
        CompletionQueue(self.dev, eqn=eq.number)

    def test_the_driver_makes_keys_in_a_domain_of_a_context(self):
        Key(self.dev, pd=self.one.pd)

    def test_a_command_of_the_driver_is_none_of_a_context(self):
        for name in ("ENABLE_HCA", "TEARDOWN_HCA", "CREATE_UCTX", "CREATE_EQ", "PAGE_FAULT_RESUME",
                     "MANAGE_PAGES", "SET_HCA_CAP"):
            self.assertEqual(self.dev.status(name, uid=self.one.uid), BAD_OP, name)

    def test_no_event_queue_hears_a_doorbell_in_the_page_of_a_program(self):
        """A consumer's index far away makes it full, and the driver lose events."""
        self.dev.eq.tell(self.one.uar, 0x7fff00)
        one = self.one
        self.dev.doorbell(one.uar, 0x20, struct.pack(">II", 0, one.cq.number))
        one.qp.connect(one.qp.number)
        one.qp.post(WRITE, remote(one.key), data(one.key, 8))
        self.machine.step()
        self.assertEqual(one.cq.poll(), [(REQ, 0, 0)])
        self.assertEqual([event[0] for event in self.dev.eq.events()], [0])

    def test_no_queue_hears_a_doorbell_in_another_page(self):
        one = self.one
        one.qp.connect(one.qp.number)
        one.qp.post(WRITE, remote(one.key), data(one.key, 8), ring=False)
        one.qp.uar, mine = self.two.uar, one.qp.uar
        one.qp.ring()
        self.machine.step()
        self.assertEqual(one.cq.poll(), [])
        one.qp.uar = mine
        one.qp.ring()
        self.machine.step()
        self.assertEqual(one.cq.poll(), [(REQ, 0, 0)])
