# SPDX-License-Identifier: GPL-2.0
"""Two machines at once, with a network and a fabric between them.

    first, second = nodes.run("debug", ["ibv_rc_pingpong", "ibv_rc_pingpong $PEER"], dev="mlx5")

Each has its own kernel, memory and swap.  NODE is 0 and 1, PEER the other's address,
and $BETWEEN a folder that both can write.  Both commands start when both machines are
ready, and neither machine ends before the other's command has.  $BETWEEN has
ready.NODE and done.NODE for that, and gone.NODE when a machine has ended.
"""
import os
import tempfile

from machine import slots, vm

COUNT = 2


def lossy(opts):
    """Options that the delay (ms) and the loss (%) between the machines come to: for the
    network by netem, for the adapters by their own properties."""
    delay, loss = float(opts.get("delay") or 0), float(opts.get("loss") or 0)
    netem = [f"delay {delay}ms"] * bool(delay) + [f"loss {loss}%"] * bool(loss)
    adapter = [f"wire-delay={round(delay * 1e6)}"] * bool(delay)
    # Each end of the link loses what it sends, and what it is sent.
    adapter += [f"link-loss={max(1, round(200 / loss))}"] if loss else []
    return " ".join(netem), ",".join(filter(None, [opts.get("mlx5"), *adapter]))


def addresses(opts):
    """{name: address}: on the network, and of the ports of the first adapters."""
    return {**{f"node{node}": f"192.0.2.{node + 1}" for node in range(COUNT)},
            **{f"node{node}-ib": f"198.51.100.{1 + vm.adapters(opts) * node}"
               for node in range(COUNT) if opts.get("ipoib")}}


def of_node(node, between, opts):
    """The options of vm.boot() for that machine."""
    netem, adapter = lossy(opts)
    hosts = addresses(opts)
    env = {"NODE": str(node), "PEER": hosts[f"node{1 - node}"], "BETWEEN": "/mnt/between",
           "PINLESS_HOSTS": ";".join(f"{address} {name}" for name, address in hosts.items()),
           "PINLESS_NETEM": netem, **(opts.get("env") or {})}
    return {**opts, "node": node, "between": between, "env": env, "mlx5": adapter,
            "name": f"{opts.get('name') or 'nodes'}-node{node}",
            "prefix": f"node{node}| ".encode()}


def run(config, commands, **opts):
    """The results of both, in order."""
    kernel = vm.image(config)
    opts.setdefault("config", config)
    accel = vm.accel_for(kernel)

    def boot(node, command):
        try:
            return vm.boot(kernel, command, of_node(node, between, opts), accel)
        finally:
            open(os.path.join(between, "shared", f"gone.{node}"), "w").close()

    # Sockets have short names, which the folder of a checkout might not be.
    with slots.HOST.take(COUNT, opts.get("seconds")), \
         tempfile.TemporaryDirectory(prefix="pinless-") as between:
        os.mkdir(os.path.join(between, "shared"))
        return vm.together(boot, enumerate(commands))
