# SPDX-License-Identifier: GPL-2.0
"""The rows of the matrix of middleware: programs, transports, pinned or paged.

A row is named mw.<program>_<transport>_<pinned|odp>. It is paged by the program's own option
where the program has one ("own"), otherwise by tools/rdma/odp-run ("odp-run").
"""
import os
import shlex
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.realpath(__file__))

# Status 0 says it: the program compares the data, and fails if they differ.
BY_STATUS = ""
# The program does not look at the data. Such a row is about faults and completions.
UNVERIFIED = None
SMALL, LARGE = 64 << 10, 1 << 20
VERIFIED = r"^verified \d+ elements"
# UCX does not expect faults of queue pairs that it makes by DEVX, and would pin.
UCX_ODP = {"UCX_IB_MLX5_DEVX_OBJECTS": "dct", "UCX_IB_ODP_MAX_SIZE": "1g"}
# One region for all that the program does not register by itself.
UCX_IMPLICIT = {"UCX_IB_REG_METHODS": "odp,direct", **UCX_ODP}
# uct_ib_md_release_reg_method() of UCX 1.13.1 calls uct_ib_mem_dereg(md, md->global_odp), but
# the second argument is to be a structure of parameters. So the region's two keys are read as
# a mask, and if that says so, what follows as a handle: some keys crash, others do not.
UCX_CLOSE = (139, "UCX 1.13.1 takes its implicit region for parameters when it closes the device")


@dataclass
class Row:
    program: str
    transport: str
    command: list                   # the client, or all of it
    proof: str = UNVERIFIED         # what the output has if the data were verified
    paged: str = ""                 # "", "own" or "odp-run"
    server: list = None
    port: int = 0
    serves_on: bool = False         # the server does not end with its client
    env: dict = field(default_factory=dict)
    long: bool = False
    limit: int = 90
    pace: float = 0.1               # seconds from one eviction to the next
    known: tuple = None             # a status that is the program's own fault, and why

    @property
    def name(self):
        return f"mw.{self.program}_{self.transport}_{'odp' if self.paged else 'pinned'}"


class Place:
    """Where the rows run: devices, the address of rdma CM, GIDs, compiled programs."""
    def __init__(self, devices, programs, odp_run, gids, address):
        self.devices, self.programs, self.odp_run = devices, programs, odp_run
        self.address = address          # of the first device's interface, or ""
        # A connection of rdma CM has an RNR timer of 655 ms. On mlx5 a requester comes again that
        # late after a fault, and has to find the page.
        self.cm_pace = 0.1 if devices[0].startswith("rxe") else 1
        self.rxe = devices[0].startswith("rxe")
        self.ipv4, self.ipv6 = gids

    def ucx(self, nr):
        """UCX finds its peers by datagrams. Of those with an IPv4 header it drops all that
        come by rxe: it takes the header's kind from a field of completions (sl) that mlx5
        uses for it. GID 0 is of an address that the interface does not have."""
        gid = {"UCX_IB_GID_INDEX": str(self.ipv6)} if self.rxe else {}
        return {"UCX_NET_DEVICES": f"{self.devices[nr]}:1", "UCX_WARN_UNUSED_ENV_VARS": "n", **gid}

    def transports(self):
        return ("rc_v", "ud_v") if self.rxe else ("rc_v", "rc_x", "ud_v", "ud_x")

    def paging(self, how):
        return [self.odp_run] if how == "odp-run" else []


def assignments(env):
    return ["env", *(f"{name}={value}" for name, value in env.items())]


def ranks(place, launcher, program, env):
    """Two ranks, each with its own device. They may not use shared memory."""
    each = [["-n", "1", f"{HERE}/only_device.sh", place.devices[nr],
             *assignments({**place.ucx(nr), **env}), *program] for nr in (0, 1)]
    return [*launcher, *each[0], ":", *each[1]]


def mpi_paging(place, transport):
    """(how, variables, what runs the program, the known fault) of MPI programs that are paged.

    UCX's datagrams have receive buffers, which mlx5 cannot page, and odp-run pages all. So there
    it is UCX's own way.
    """
    if not transport.startswith("rc"):
        return []                   # by UCX's own buffers: nothing of the program's is paged
    if place.rxe:
        return [("odp-run", UCX_ODP, [place.odp_run], None)]
    return [("own", UCX_IMPLICIT, [], UCX_CLOSE)]


MPIRUN = ["mpirun", "--oversubscribe", "--mca", "btl", "self", "--mca", "pml", "ucx",
          "--mca", "osc", "ucx", "--mca", "pml_ucx_tls", "any", "--mca", "pml_ucx_devices", "any"]


def mpi_over_ucx(place):
    for transport in place.transports():
        for paged, more, before, known in [("", {}, [], None), *mpi_paging(place, transport)]:
            for kind in ("p2p", "coll", "window"):
                program = [*before, f"{place.programs}/mpi_verify", kind, str(LARGE), "2"]
                short = transport == "rc_v" and paged and kind == "p2p"
                yield Row(f"openmpi_{kind}", f"ucx_{transport}",
                          ranks(place, MPIRUN, program, {"UCX_TLS": f"{transport},self", **more}),
                          VERIFIED, paged, long=not short, limit=180, known=known)


def mpi_by_implicit_region(place):
    """UCX's own way on rxe, too."""
    if place.rxe:
        program = [f"{place.programs}/mpi_verify", "p2p", str(LARGE), "2"]
        yield Row("openmpi_p2p", "ucx_rc_v_implicit",
                  ranks(place, MPIRUN, program, {"UCX_TLS": "rc_v,self", **UCX_IMPLICIT}),
                  VERIFIED, "own", long=True, limit=180, known=UCX_CLOSE)


# ofi_rxm wants completion queues for 256 peers, larger than rxe has.
FI = {"FI_UNIVERSE_SIZE": "2"}


def mpi_over_libfabric(place):
    """One-sided windows go by messages of the same library (osc pt2pt)."""
    mpirun = ["mpirun", "--oversubscribe", "-n", "2", "--mca", "btl", "self", "--mca", "pml", "cm",
              "--mca", "mtl", "ofi", "--mca", "mtl_ofi_provider_include", "verbs;ofi_rxm",
              "--mca", "osc", "pt2pt"]
    for kind in ("p2p", "coll", "window"):
        for paged in ("", "own"):
            yield Row(f"openmpi_{kind}", "ofi_rxm",
                      [*mpirun, f"{place.programs}/mpi_verify", kind, str(LARGE), "2"],
                      VERIFIED, paged, long=True, limit=180,
                      env={"FI_VERBS_USE_ODP": str(int(bool(paged))), **FI})


def openshmem(place):
    # With its hooks of memory (patcher) it crashes when a thread ends after their library was
    # unloaded, also without RDMA.
    oshrun = ["oshrun", *MPIRUN[1:], "--mca", "memory", "^patcher"]
    program = [f"{place.programs}/shmem_verify", str(LARGE), "2"]
    for transport in place.transports()[:1 if place.rxe else 2]:
        for paged in ("", "own"):
            env = {"UCX_TLS": f"{transport},self", "SMA_SYMMETRIC_HEAP_SIZE": "16M",
                   **(UCX_ODP if paged else {})}
            nonblocking = ["--mca", "spml_ucx_heap_reg_nb", str(int(bool(paged)))]
            yield Row("openshmem", f"ucx_{transport}",
                      ranks(place, [*oshrun, *nonblocking], program, env),
                      VERIFIED, paged, long=True, limit=180)


def netpipe(place):
    """It verifies in a mode of its own, and then measures nothing. By default UCX copies
    messages of this size."""
    for paged, more, before, known in [("", {}, [], None), *mpi_paging(place, "rc_v")]:
        program = [*before, "NPopenmpi", "-i", "-u", str(SMALL), "-o", "/tmp/np.out"]
        env = {"UCX_TLS": "rc_v,self", "UCX_RNDV_THRESH": "16384", **more}
        yield Row("netpipe", "ucx_rc_v", ranks(place, MPIRUN, program, env),
                  r"Integrity check passed", paged, long=True, limit=240, known=known)


def ucx_paging(place, test, transport):
    """As mpi_paging(). -B has UCX page the memory of the test itself, which is copied from and
    to UCX's own buffers where messages are sent on rxe, and by streams and atomics on mlx5."""
    if not transport.startswith("rc") or (test in ("stream_bw", "ucp_fadd") and not place.rxe):
        return []
    if place.rxe and test not in ("ucp_put_bw", "ucp_get"):
        return ["odp-run"]
    return ["own"]


def ucx_perftest(place):
    """Debian's version has no option to verify what came: openmpi_* and openshmem do that
    for the same operations."""
    for test in ("ucp_put_bw", "ucp_get", "tag_bw", "ucp_am_bw", "stream_bw", "ucp_fadd"):
        for transport in place.transports():
            for paged in ["", *ucx_paging(place, test, transport)]:
                run = [*place.paging(paged), "ucx_perftest", "-t", test, "-w", "5", "-n", "1000",
                       "-s", str(8 if test == "ucp_fadd" else SMALL), *["-B"] * (paged == "own")]
                env = {"UCX_TLS": transport, **(UCX_ODP if paged else {})}
                yield Row(f"ucx_{test.replace('ucp_', '')}", transport,
                          [*assignments(place.ucx(1)), *run, "127.0.0.1"], UNVERIFIED, paged,
                          [*assignments(place.ucx(0)), *run], 13337, env=env, limit=90,
                          long=transport != "rc_v" or test != "ucp_am_bw" or place.rxe)


def perftest(place):
    """Its --odp refuses atomics, which odp-run does not."""
    options = ["-x", str(place.ipv4)] if place.rxe else []
    address = place.address if place.rxe else "127.0.0.1"
    for test in ("write_bw", "write_lat", "read_bw", "read_lat", "send_bw", "send_lat",
                 "atomic_bw", "atomic_lat"):
        paged = "odp-run" if test.startswith("atomic") else "own"
        own = ["--odp"] if paged == "own" else []
        # On mlx5 most runs are over before the first page is taken away, unless they are long.
        turns = "5000" if test.endswith("bw") and not place.rxe else "500"
        run = [*place.paging(paged), f"ib_{test}", "-F", "-n", turns, *own, *options, "-d"]
        server, client = place.devices
        yield Row(f"perftest_{test}", "rc", [*run, client, address], UNVERIFIED, paged,
                  [*run, server], 18515,
                  long=not place.rxe or test not in ("read_lat", "send_lat"))


def fi_pingpong(place):
    """mlx5 cannot page what datagrams are received in."""
    for kind, provider in (("msg", "verbs"), ("rdm", "verbs;ofi_rxm"), ("dgram", "verbs")):
        for paged in ("", "own")[:1 if kind == "dgram" and not place.rxe else 2]:
            run = ["fi_pingpong", "-c", "-e", kind, "-p", provider, "-I", "5"]
            yield Row("fi_pingpong", kind, [*run, place.address], BY_STATUS, paged, run, 47592,
                      env={"FI_VERBS_USE_ODP": str(int(bool(paged))), **FI}, limit=90,
                      long=kind != "msg" or not paged)


def cm_programs(place):
    """The examples of rdma CM, of which rping, rstream and riostream compare what came."""
    many = "20" if place.rxe else "2000"
    stream = ["-T", "v", "-S", str(SMALL), "-C", "10", "-I", "5"]
    ping = ["-a", place.address, "-V", "-C", many, "-S", "4096"]
    turns, to, on = ["-C", many], ["-s", place.address], ["-b", place.address]
    pairs = (("rping", ["-s", *ping], ["-c", *ping], 7174, BY_STATUS),
             ("rstream", stream, [*to, *stream], 7471, BY_STATUS),
             ("riostream", stream, [*to, *stream], 7471, BY_STATUS),
             ("ucmatose", [*on, *turns, "-S", "4096"], [*to, *turns, "-S", "4096"], 7471,
              UNVERIFIED),
             ("udaddy", [*on, *turns], [*to, *turns], 7174, UNVERIFIED))
    for program, server, client, port, proof in pairs:
        # udaddy's datagrams are as fi_pingpong's. Rings of rsockets fault by page, 655 ms each.
        pinned = not place.rxe and program in ("udaddy", "rstream", "riostream")
        for paged in ("", "odp-run")[:1 if pinned else 2]:
            before = place.paging(paged)
            yield Row(program, "cm", [*before, program, *client], proof, paged,
                      [*before, program, *server], port, limit=90, pace=place.cm_pace,
                      long=not place.rxe or program not in ("rping", "rstream") or not paged)


def rsockets(place):
    """Files of 3 MB over rsockets, compared byte by byte.

    Programs for TCP cannot be made to use them any more: python3 and others ask for a socket
    with flags (SOCK_CLOEXEC), and librspreload leaves those to TCP. Without a count of faults
    nothing shows that.
    """
    make = "head -c 3000000 /dev/urandom >/tmp/sent && rm -f /tmp/received"
    for paged in ("", "odp-run")[:2 if place.rxe else 1]:
        before = place.paging(paged)
        copy = shlex.join([*before, "rcopy", "/tmp/sent", f"{place.address}:/tmp/received"])
        yield Row("rcopy", "rsocket",
                  ["bash", "-c", f"{make} && {copy} && cmp /tmp/sent /tmp/received && echo same"],
                  r"^same$", paged, [*before, "rcopy"], 7427, serves_on=True, long=True,
                  pace=place.cm_pace)


def qperf(place):
    """Its atomics verify the counters' values."""
    for paged in ("", "odp-run"):
        before = place.paging(paged)
        yield Row("qperf", "cm", [*before, "qperf", "-cm1", "-t", "1", place.address, "rc_bi_bw",
                                  "rc_rdma_read_bw", "ver_rc_fetch_add", "ver_rc_compare_swap"],
                  BY_STATUS, paged, [*before, "qperf"], 19765, serves_on=True, long=True,
                  pace=place.cm_pace)


# libfabric's verbs provider and rsockets connect by rdma CM, which needs an IP interface on the
# device's port. An mlx5 adapter without IPoIB has none: no Ethernet.
BY_ADDRESS = (mpi_over_libfabric, fi_pingpong, cm_programs, rsockets, qperf)
BY_DEVICE = (mpi_over_ucx, mpi_by_implicit_region, openshmem, netpipe, ucx_perftest, perftest)


def rows(place):
    for family in BY_DEVICE + (BY_ADDRESS if place.address else ()):
        yield from family(place)
