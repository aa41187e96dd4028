# SPDX-License-Identifier: GPL-2.0
"""What is in use is not destroyed, and is as soon as it is not used any more."""
from adapter import (BAD_PARAM, BAD_RES_STATE, NO_RES, OK, CompletionQueue, EventQueue, Key,
                     QueuePair, pas)
from bench import Bench

XRC = 3


class InUse(Bench):
    def setUp(self):
        super().setUp()
        self.dev.start()

    def kept(self, destroy, **number):
        self.assertEqual(self.dev.status(destroy, **number), BAD_RES_STATE, destroy)

    def goes(self, destroy, **number):
        self.assertEqual(self.dev.status(destroy, **number), OK, destroy)

    def receive_queue(self, pd):
        pages = self.machine.pages(2)
        return self.dev.command(
            "CREATE_RMP", pas(pages), ctx__wq__pd=pd, ctx__wq__log_wq_stride=5,
            ctx__wq__log_wq_sz=4, ctx__wq__dbr_addr=pages + 4096)["rmpn"]

    def xrc_receive_queue(self, pd, cq, xrcd):
        pages = self.machine.pages(2)
        head = "xrc_srq_context_entry__"
        return self.dev.command(
            "CREATE_XRC_SRQ", pas(pages), **{head + name: value for name, value in (
                ("pd", pd), ("cqn", cq), ("xrcd", xrcd), ("log_xrc_srq_size", 4),
                ("log_rq_stride", 1), ("db_record_addr_l", pages + 4096 >> 2))})["xrc_srqn"]

    def test_a_domain_by_a_queue_pair(self):
        pd = self.dev.command("ALLOC_PD")["pd"]
        qp = QueuePair(self.dev, CompletionQueue(self.dev), pd=pd)
        self.kept("DEALLOC_PD", pd=pd)
        self.goes("DESTROY_QP", qpn=qp.number)
        self.goes("DEALLOC_PD", pd=pd)

    def test_a_domain_by_a_receive_queue(self):
        pd = self.dev.command("ALLOC_PD")["pd"]
        rmp = self.receive_queue(pd)
        self.kept("DEALLOC_PD", pd=pd)
        self.goes("DESTROY_RMP", rmpn=rmp)
        self.goes("DEALLOC_PD", pd=pd)

    def test_a_domain_by_a_key(self):
        pd = self.dev.command("ALLOC_PD")["pd"]
        key = Key(self.dev, pd=pd)
        self.kept("DEALLOC_PD", pd=pd)
        self.goes("DESTROY_MKEY", mkey_index=key.index)
        self.goes("DEALLOC_PD", pd=pd)

    def test_completion_queues_by_a_queue_pair(self):
        sends, receives = CompletionQueue(self.dev), CompletionQueue(self.dev)
        qp = QueuePair(self.dev, sends, recv_cq=receives)
        self.kept("DESTROY_CQ", cqn=sends.number)
        self.kept("DESTROY_CQ", cqn=receives.number)
        self.goes("DESTROY_QP", qpn=qp.number)
        self.goes("DESTROY_CQ", cqn=sends.number)
        self.goes("DESTROY_CQ", cqn=receives.number)

    def test_a_receive_queue_by_a_queue_pair(self):
        rmp = self.receive_queue(self.dev.pd)
        qp = QueuePair(self.dev, CompletionQueue(self.dev), srq=rmp)
        self.kept("DESTROY_RMP", rmpn=rmp)
        self.goes("DESTROY_QP", qpn=qp.number)
        self.goes("DESTROY_RMP", rmpn=rmp)

    def test_an_xrc_domain_and_what_its_receive_queue_uses(self):
        xrcd, pd = self.dev.command("ALLOC_XRCD")["xrcd"], self.dev.command("ALLOC_PD")["pd"]
        cq = CompletionQueue(self.dev)
        srq = self.xrc_receive_queue(pd, cq.number, xrcd)
        self.kept("DEALLOC_XRCD", xrcd=xrcd)
        self.kept("DESTROY_CQ", cqn=cq.number)
        self.kept("DEALLOC_PD", pd=pd)
        self.goes("DESTROY_XRC_SRQ", xrc_srqn=srq)
        self.goes("DEALLOC_XRCD", xrcd=xrcd)
        self.goes("DESTROY_CQ", cqn=cq.number)

    def test_an_xrc_domain_by_a_queue_pair(self):
        xrcd, cq = self.dev.command("ALLOC_XRCD")["xrcd"], CompletionQueue(self.dev)
        qpn = self.dev.command("CREATE_QP", qpc__st=XRC, qpc__pd=self.dev.pd, qpc__xrcd=xrcd,
                               qpc__no_sq=1, qpc__rq_type=1, qpc__cqn_rcv=cq.number)["qpn"]
        self.kept("DEALLOC_XRCD", xrcd=xrcd)
        self.goes("DESTROY_QP", qpn=qpn)
        self.goes("DEALLOC_XRCD", xrcd=xrcd)

    def test_a_doorbell_page_by_each_kind_of_queue(self):
        makers = (("DESTROY_EQ", "eq_number", lambda uar: EventQueue(self.dev, uar=uar)),
                  ("DESTROY_CQ", "cqn", lambda uar: CompletionQueue(self.dev, uar=uar)),
                  ("DESTROY_QP", "qpn",
                   lambda uar: QueuePair(self.dev, CompletionQueue(self.dev), uar=uar)))
        for destroy, name, make in makers:
            uar = self.dev.command("ALLOC_UAR")["uar"]
            queue = make(uar)
            self.kept("DEALLOC_UAR", uar=uar)
            self.goes(destroy, **{name: queue.number})
            self.goes("DEALLOC_UAR", uar=uar)

    def test_an_event_queue_by_a_completion_queue(self):
        eq = EventQueue(self.dev, types=0)
        cq = CompletionQueue(self.dev, eqn=eq.number)
        self.kept("DESTROY_EQ", eq_number=eq.number)
        self.goes("DESTROY_CQ", cqn=cq.number)
        self.goes("DESTROY_EQ", eq_number=eq.number)

    def test_a_user_context_goes_with_its_last_object(self):
        """The driver destroys it before: its number is valid, and no other's, until then."""
        uid = self.dev.command("CREATE_UCTX")["uid"]
        pds = [self.dev.command("ALLOC_PD", uid=uid)["pd"] for _ in range(2)]
        self.goes("DESTROY_UCTX", uid=uid)
        others = [self.dev.command("CREATE_UCTX")["uid"] for _ in range(254)]
        self.assertNotIn(uid, others)
        self.goes("DEALLOC_PD", uid=uid, pd=pds[0])
        self.assertEqual(self.dev.status("CREATE_UCTX"), NO_RES)
        self.goes("DEALLOC_PD", uid=uid, pd=pds[1])
        self.assertEqual(self.dev.status("ALLOC_PD", uid=uid), BAD_PARAM)
        self.assertEqual(self.dev.command("CREATE_UCTX")["uid"], uid)

    def test_nothing_is_in_use_after_a_teardown(self):
        """Event queues outlive it: the doorbell page of one is no more in a table."""
        uar = self.dev.command("ALLOC_UAR")["uar"]
        eq = EventQueue(self.dev, types=0, uar=uar)
        QueuePair(self.dev, CompletionQueue(self.dev, eqn=eq.number))
        self.dev.command("TEARDOWN_HCA")
        self.goes("DESTROY_EQ", eq_number=eq.number)
        self.dev.start()
