"""A second hostile suite: three real agents against a QUIC stack that is not theirs. One line for each thing tried.

    python suite.py PATH-OF-QUORATE [ROW ...]

Never judges its own work: `rows_control.py` shows first that the protocol spoken here is the real one.
"""

import asyncio
import os
import sys
import tempfile
import time
import traceback

import rows_control  # noqa: F401  (registers its rows, first)
import rows_flood  # noqa: F401
import rows_frames  # noqa: F401
import rows_greeting  # noqa: F401
import rows_slow  # noqa: F401
import rows_text  # noqa: F401
import rows_trust  # noqa: F401
from cluster import Cluster
from lab import ROWS, Lab


async def sample(cluster):
    while True:
        for agent in cluster.agents:
            agent.look()
        await asyncio.sleep(0.1)


async def run(cluster, only):
    lab = Lab(cluster)
    before = {agent.name: cluster.status(agent) for agent in cluster.agents}
    appender = await cluster.append_on_and_on()
    await asyncio.sleep(2)
    idle = len(appender.acked)
    for agent in cluster.agents:
        agent.quiet = agent.look()
    sampler = asyncio.create_task(sample(cluster))
    for number, title, function in sorted(ROWS, key=lambda known: int(known[0])):
        if only and number not in only:
            continue
        lab.row = f"{number} {title}"
        began = time.monotonic()
        print(f"{number:>3}. {title}", flush=True)
        try:
            await function(lab)
        except Exception:
            lab.say("the row itself", "failed:\n" + traceback.format_exc(), False)
        lab.say_if_dead(appender)
        print(f"       ({time.monotonic() - began:.1f} s)", flush=True)
    await settle(lab, cluster, before, appender, idle)
    sampler.cancel()
    return lab


async def settle(lab, cluster, before, appender, idle):
    """What the cluster looks like after all that."""
    lab.row = "after all that"
    print("  =. after all that")
    await asyncio.sleep(1)
    attacked = len(appender.acked)
    sent, acked, code, complaint = await appender.finish()
    lab.say(f"{sent} appends meanwhile", f"{acked} acknowledged, exit {code} {complaint}", sent == acked and code == 0)
    offsets = [offset for offset, _ in appender.acked]
    lab.say("their offsets", "each later than the one before", all(a < b for a, b in zip(offsets, offsets[1:])))
    for what, some in (("idle", appender.latencies(0, idle)), ("attacked", appender.latencies(idle, attacked))):
        if some:
            p50, p99 = some[len(some) // 2], some[len(some) * 99 // 100]
            print(f"         appends, {what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {some[-1]:.1f} ms")
    for agent in cluster.agents:
        now, then = cluster.status(agent), before[agent.name]
        ok = now["term"] == then["term"] and now["leader"] == then["leader"] and now["healthy"]
        happened = f"term {then['term']} -> {now['term']}, leader {then['leader']} -> {now['leader']}"
        lab.say(agent.name, f"{happened}, problems {now['problems']}", ok)


# What an agent may need more than when it was left alone: at the worst moment, and afterwards (the allocator and
# connections that wait for their idle timeout keep some), in KiB; and descriptors that may stay.
MOST_KIB_MAX = 128 * 1024
AFTER_KIB_MAX = 64 * 1024
DESCRIPTORS_MAX = 2


def table(lab, cluster):
    print("\nagent   RSS in MiB: before    most   after      descriptors: before    most   after")
    for agent in cluster.agents:
        after = agent.look()
        (kib, fds), (most_kib, most_fds) = agent.quiet, agent.peak
        ok = most_kib - kib <= MOST_KIB_MAX and after[0] - kib <= AFTER_KIB_MAX and after[1] - fds <= DESCRIPTORS_MAX
        lab.verdicts.append(("after all that", f"memory and descriptors of {agent.name}", ok))
        memory = "".join(f"{one / 1024:8.1f}" for one in (kib, most_kib, after[0]))
        descriptors = "".join(f"{one:8}" for one in (fds, most_fds, after[1]))
        print(f"{agent.name:<16}{memory}{descriptors:>42}")


def main():
    quorate, only = sys.argv[1], set(sys.argv[2:])
    with tempfile.TemporaryDirectory(prefix="quorate-hostile-") as home:
        cluster = Cluster(quorate, home)
        try:
            cluster.start()
            # The attacker must not win by taking the processor of the machine that it shares with its victims.
            os.nice(5)
            lab = asyncio.run(run(cluster, only))
            table(lab, cluster)
        finally:
            cluster.stop()
            if keep := os.environ.get("KEEP_LOGS"):
                os.system(f"mkdir -p {keep}; cp {home}/*.log {keep}/")
    wrong = [verdict for verdict in lab.verdicts if not verdict[2]]
    print(f"\n{len(lab.verdicts)} verdicts, {len(wrong)} wrong")
    for where, what, _ in wrong:
        print(f"  WRONG  {where}: {what}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
