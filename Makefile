# SPDX-License-Identifier: GPL-2.0
# Thin verbs: each one hands its variables to a tool in dev/.  Bare `make`
# prints them.  See dev/README.md.

MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
D := dev

# A command may hold $ and quotes: hand it on as it was typed.
export PINLESS_CMD := $(value CMD)
export PINLESS_ALLOW := $(value ALLOW)
unexport CMD ALLOW
export MEM SMP DEV MLX5 IOMMU REBOOT SANITIZE SWAP FAKENUMA HUGEPAGES PMEM APPEND TIMEOUT V T ACCEL BUILD TIER
export KMEMLEAK REPEAT

.PHONY: help tree kernel image qemu vm kunit selftest oracle interop mlx5 hostile check check-long \
	matrix soak demo bench consumers refresh series clean clean-cache

help:
	@sed -n 's/^## //p' Makefile

## make tree [TREE=stock]       path of the work (stock) tree, unpacked and patched
tree:
	@$(D)/trees/tree $(or $(TREE),work)

## make kernel [CONFIG=x]       build; x: demo check debug bench kcsan stock stock-debug ...
kernel:
	@$(D)/kernels/build $(or $(CONFIG),demo)

## make -s image [CONFIG=x]     the same, and print the path of the bzImage
image:
	@$(D)/kernels/build -i $(or $(CONFIG),demo)

## make qemu [SANITIZE=1]       Debian's QEMU with our mlx5 adapter (DEV=mlx5); with
##                              sanitizers: SANITIZE=1 make mlx5 runs that one
qemu:
	@$(D)/machine/qemu

## make vm CMD='...' [CONFIG=x MEM=1G SMP=2 DEV=rxe SWAP=1G FAKENUMA=2
##         HUGEPAGES=n PMEM=128M APPEND=... TIMEOUT=s ALLOW=regex]
##                              run CMD in a VM on this machine's user space
vm:
	@$(D)/machine/run $(or $(CONFIG),demo)

## make kunit [T=glob]          the KUnit suites in the debug kernel
kunit:
	@$(D)/gate/kunit.py $(or $(CONFIG),debug)

## make selftest [T=glob]       kselftests, ours and the base's
selftest:
	@$(D)/gate/selftest.py $(CONFIG)

## make oracle [T=globs]        our tests of the notifiers, on stock's core
oracle:
	@$(D)/gate/selftest.py oracle

## make interop [T=glob DEV=mlx5|mlx5-memory] real RDMA clients on rxe, compared with stock
interop:
	@$(D)/interop/run.py $(CONFIG)

## make mlx5 [T=glob]           the mlx5 adapter's own tests, on the stock driver
mlx5:
	@$(D)/mlx5/run.py $(CONFIG)

## make hostile [CONFIG=x T=glob]   an mlx5 adapter that misbehaves; x is stock, or ours
hostile:
	@$(D)/mlx5/hostile.py $(or $(CONFIG),stock)

## make check                   everything that decides whether a change is good
## make check FOR='path...'      only the tests that execute these files, best ones first
#                               From the environment it would make less of a check.
check:
	@$(if $(findstring command,$(origin FOR)),$(D)/gate/coverage.py run $(FOR),$(D)/gate/check.py)

## make check-long [SLICES=...]  what takes longer; results go to dev/gate/long
check-long:
	@$(D)/gate/longrun.py $(SLICES)

## make demo [DEV=mlx5]         from a fresh machine to the main job
demo:
	@$(D)/demo/run

## make consumers               every user of the notifier API compiles; the core everywhere
consumers:
	@$(D)/kernels/consumers

## make matrix [T='arm64*']     the KUnit suites in other configurations and on other architectures
matrix:
	@$(D)/gate/matrix.py

## make soak [MINUTES=10] [SEED=n]   random transfers on both devices while memory changes
soak:
	@$(D)/gate/soak.py $(CONFIG)

## make bench [T=odp|notifier|coherence]   stock and ours side by side: table and plots
bench:
	@$(D)/bench/run.py

## make refresh                 patches/ from the commits of the work tree
refresh:
	@$(D)/trees/refresh

## make series [BUILD=1]        out/series: mails that `git am` takes on stock
series:
	@CONFIG=$(CONFIG) $(D)/trees/series

## make clean                   remove out/
clean:
	rm -rf out

## make clean-cache             remove cached work trees whose checkout is gone
clean-cache:
	@$(D)/trees/clean-cache
