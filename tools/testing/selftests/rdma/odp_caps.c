// SPDX-License-Identifier: GPL-2.0
/*
 * What a device says that it can page, and what registration refuses.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp_loop.h"

#include "../kselftest_harness.h"

FIXTURE(caps) {
	struct odp_dev dev;
	char *mem;
};

FIXTURE_SETUP(caps)
{
	ASSERT_EQ(0, odp_open(&self->dev));
	self->mem = odp_map(ODP_CHUNK);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
}

FIXTURE_TEARDOWN(caps)
{
	odp_close(&self->dev);
}

static int reg_errno(struct ibv_pd *pd, void *addr, size_t len, int access)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, addr, len, access);

	if (!mr)
		return errno;
	ibv_dereg_mr(mr);
	return 0;
}

TEST_F(caps, rxe_says_exactly_what_it_pages)
{
	const struct ibv_odp_caps *caps = &self->dev.attr.odp_caps;

	if (!odp_is_rxe(self->dev.ctx))
		SKIP(return, "the device is not rxe");
	EXPECT_EQ(IBV_ODP_SUPPORT | IBV_ODP_SUPPORT_IMPLICIT, caps->general_caps);
	EXPECT_EQ(IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV |
		  IBV_ODP_SUPPORT_WRITE | IBV_ODP_SUPPORT_READ |
		  IBV_ODP_SUPPORT_ATOMIC | IBV_ODP_SUPPORT_SRQ_RECV,
		  caps->per_transport_caps.rc_odp_caps);
	EXPECT_EQ(IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV |
		  IBV_ODP_SUPPORT_WRITE, caps->per_transport_caps.uc_odp_caps);
	EXPECT_EQ(IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV |
		  IBV_ODP_SUPPORT_SRQ_RECV, caps->per_transport_caps.ud_odp_caps);
	EXPECT_EQ(0, self->dev.attr.xrc_odp_caps);
}

TEST_F(caps, paged_region_of_one_byte_is_accepted)
{
	EXPECT_EQ(0, reg_errno(self->dev.pd, self->mem + 4095, 1, ODP_PAGED));
}

TEST_F(caps, memory_that_is_not_mapped_is_accepted)
{
	ASSERT_EQ(0, munmap(self->mem, ODP_CHUNK));
	EXPECT_EQ(0, reg_errno(self->dev.pd, self->mem, ODP_CHUNK, ODP_PAGED));
	EXPECT_EQ(EFAULT, reg_errno(self->dev.pd, self->mem, ODP_CHUNK, ODP_REMOTE));
}

TEST_F(caps, region_of_no_length_is_refused)
{
	EXPECT_EQ(EINVAL, reg_errno(self->dev.pd, self->mem, 0, ODP_PAGED));
}

TEST_F(caps, region_that_wraps_around_is_refused)
{
	EXPECT_EQ(EOVERFLOW, reg_errno(self->dev.pd, self->mem, -4096UL, ODP_PAGED));
	EXPECT_EQ(EOVERFLOW, reg_errno(self->dev.pd, (void *)-4096UL, 8192, ODP_PAGED));
	EXPECT_EQ(EOVERFLOW, reg_errno(self->dev.pd, (void *)-4096UL, 4095, ODP_PAGED));
}

TEST_F(caps, kernel_address_is_refused)
{
	EXPECT_EQ(EFAULT, reg_errno(self->dev.pd, (void *)0xffff888000000000UL,
				    4096, ODP_PAGED));
	EXPECT_EQ(EFAULT, reg_errno(self->dev.pd, self->mem,
				    0xffff888000000000UL - (uintptr_t)self->mem,
				    ODP_PAGED));
}

TEST_F(caps, remote_write_without_local_write_is_refused)
{
	EXPECT_EQ(EINVAL, reg_errno(self->dev.pd, self->mem, 4096,
				    IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_WRITE));
	EXPECT_EQ(EINVAL, reg_errno(self->dev.pd, self->mem, 4096,
				    IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_ATOMIC));
}

TEST_F(caps, implicit_region_is_refused_where_the_device_does_not_have_it)
{
	bool has = self->dev.attr.odp_caps.general_caps & IBV_ODP_SUPPORT_IMPLICIT;

	EXPECT_EQ(has ? 0 : EOPNOTSUPP, reg_errno(self->dev.pd, NULL, SIZE_MAX, ODP_PAGED));
}

TEST_F(caps, hugetlb_flag_on_other_memory_is_refused)
{
	EXPECT_EQ(EINVAL, reg_errno(self->dev.pd, self->mem, ODP_CHUNK,
				    ODP_PAGED | IBV_ACCESS_HUGETLB));
}

TEST_F(caps, hugetlb_flag_on_huge_pages_is_accepted)
{
	char *huge = mmap(NULL, 2 * ODP_CHUNK, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (huge == MAP_FAILED)
		SKIP(return, "no huge pages are reserved");
	EXPECT_EQ(0, reg_errno(self->dev.pd, huge, 2 * ODP_CHUNK,
			       ODP_PAGED | IBV_ACCESS_HUGETLB));
	/* Not if the region goes on where they end. */
	ASSERT_EQ(0, munmap(huge + ODP_CHUNK, ODP_CHUNK));
	EXPECT_EQ(EINVAL, reg_errno(self->dev.pd, huge, 2 * ODP_CHUNK,
				    ODP_PAGED | IBV_ACCESS_HUGETLB));
}

/*
 * Whether memory is persistent is looked at when it is flushed (odp_flush.c). The flag is
 * newer than the library.
 */
TEST_F(caps, persistent_flush_is_allowed_where_the_device_has_it)
{
	const int flush_persistent = 1 << 9;
	bool rxe = odp_is_rxe(self->dev.ctx);

	EXPECT_EQ(rxe ? 0 : EOPNOTSUPP, reg_errno(self->dev.pd, self->mem, 4096,
						  ODP_PAGED | flush_persistent));
}

static int rereg_errno(struct ibv_mr *mr, int access)
{
	return odp_rereg(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, access);
}

TEST_F(caps, region_cannot_change_between_pinned_and_paged)
{
	struct ibv_mr *paged, *pinned;

	paged = ibv_reg_mr(self->dev.pd, self->mem, 4096, ODP_PAGED);
	pinned = ibv_reg_mr(self->dev.pd, self->mem, 4096, ODP_REMOTE);
	ASSERT_NE(NULL, paged);
	ASSERT_NE(NULL, pinned);
	EXPECT_EQ(EOPNOTSUPP, rereg_errno(paged, ODP_REMOTE));
	EXPECT_EQ(EOPNOTSUPP, rereg_errno(pinned, ODP_PAGED));
	EXPECT_EQ(0, rereg_errno(paged, IBV_ACCESS_ON_DEMAND | IBV_ACCESS_LOCAL_WRITE));
	EXPECT_EQ(0, rereg_errno(pinned, IBV_ACCESS_LOCAL_WRITE));
	EXPECT_EQ(0, ibv_dereg_mr(paged));
	EXPECT_EQ(0, ibv_dereg_mr(pinned));
}

TEST_F(caps, read_only_region_cannot_become_writable)
{
	struct ibv_mr *mr = ibv_reg_mr(self->dev.pd, self->mem, 4096,
				       IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_READ);

	ASSERT_NE(NULL, mr);
	EXPECT_EQ(EACCES, rereg_errno(mr, ODP_PAGED));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

TEST_HARNESS_MAIN
