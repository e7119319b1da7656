"""Scenes of connections: churn, idle and crowd."""

import re
import select
import socket
import struct
import time
from pathlib import Path

import files
from common import BROWSER, CLIENTS, between, connect, exchange, fail
from load import until_quiet, warm
from peers import same
from turns import Crowd, Figure, Scene, Target

WARMED = 50  # idle connections of the first reading: what a server sets up once is behind it
CROWD, EVERY, THREADS = 100_000, 10, 6


def churn(run):
    site = files.small(run.work / "churn")
    servers = run.contenders(site, files.SMALL, same(site, files.SMALL))

    def measure(server, _):
        warm(run, server)
        before = server.cpu()
        # More than anybody can do: who has closed connects again at once. Ports of many addresses, since each rests for a
        # minute after it was closed.
        counted = run.crowd(server, "churn", ask=True, headers=BROWSER, path=files.SMALL, connections=CLIENTS, rate=1_000_000,
                            seconds=run.seconds, sources=64)
        spent, answered = between(before, server.cpu()), sum(counted["answers"].values())
        if not answered:
            fail(f"{server.name} answers nobody in churn")
        yield spent | {
            "connections": answered, "cpu_us_per_connection": spent["cpu_seconds"] * 1e6 / answered,
            "connections_per_second": answered / counted["elapsed"],
        }

    return servers, run.turns(servers, measure)


def idle(run):
    wanted = run.idlers
    limit = run.args.descriptors - 1000
    if wanted > limit:
        wanted = limit
        run.note(f"The descriptor limit left {wanted} connections.")
    site = files.small(run.work / "idle")
    # The floor's memory is no peer's: it keeps nothing.
    servers = [s for s in run.contenders(site, files.SMALL, same(site, files.SMALL)) if s.name != "floor"]

    def measure(server, _):
        held = wanted
        if server.name == "lighttpd" and held > run.args.descriptors // 2 - 100:
            held = run.args.descriptors // 2 - 100
            run.note(f"lighttpd takes half as many connections as it may have descriptors: {held} of them.")
        with Idlers(server) as idlers:
            idlers.grow(WARMED)
            time.sleep(run.settle)
            before = server.private()
            idlers.grow(held)
            time.sleep(run.settle)
            after = server.private()
            idlers.check()
            yield {
                "connections": held, "private_before": before, "private_after": after, "private_mib": after / 2**20,
                "bytes_per_connection": (after - before) / (held - WARMED),
            }

    return servers, run.turns(servers, measure, rounds=run.long_rounds)


class Idlers:
    """Connections that have each had one answer and now say nothing."""

    def __init__(self, server):
        self.server, self.clients = server, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Reset rather than closed: no thousands of ports in TIME_WAIT before the next round.
        for client in self.clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

    def grow(self, size):
        request = self.server.request()
        while len(self.clients) < size:
            try:
                client = connect(self.server)
                self.clients.append(client)
                head, _ = exchange(client, request)
                if not head.startswith("HTTP/1.1 200"):
                    raise ConnectionError(head)
            except OSError as error:
                fail(f"{self.server.name}, connection {len(self.clients)}: {error}")

    def check(self):
        """A connection that the server has closed would make it look thrifty."""
        waiting = select.poll()
        for client in self.clients:
            waiting.register(client, select.POLLIN)
        if lost := len(waiting.poll(0)):
            fail(f"{self.server.name} closed {lost} of {len(self.clients)} idle connections")


def crowd(run):
    """As many as the descriptor tables of six threads hold, of the server and of the client."""
    count, every, ramp = (2000, 1, 4000) if run.quick else (CROWD, EVERY, 6000)
    window = 1 if run.quick else 10
    run.notes.append(
        f"{THREADS} workers, and {THREADS} threads of the floor, share the one core: a descriptor table holds {run.args.descriptors}. "
        "The peers have no such tables: one worker cannot hold so many here, and with several they would be compared by their number of processes."
    )
    site = files.small(run.work / "crowd")
    servers = [
        run.stable.cloudia(site, files.SMALL, same(site, files.SMALL), words=f"--workers {THREADS}"),
        run.stable.floor(site, files.SMALL, lambda _: None, "--threads", str(THREADS)),
    ]

    def measure(server, _):
        until_quiet(server)
        known = established()
        with Crowd(run, server, "hold", headers=BROWSER, path=files.SMALL, connections=count, every=every, rate=ramp,
                   threads=THREADS, seconds=window + 4) as clients:
            deadline = time.monotonic() + 30 + 3 * count / ramp
            # Both ends are here.
            while established() - known < 2 * count and time.monotonic() < deadline:
                time.sleep(0.1)
            # The first polls come with the last connections; a whole turn of all is what counts.
            time.sleep(0.5)
            before, start = server.cpu(), time.monotonic()
            time.sleep(window)
            spent, elapsed = between(before, server.cpu()), time.monotonic() - start
            counted = clients.wait()
        if counted["open"] < count:
            fail(f"{server.name} held {counted['open']} of {count} connections")
        latency = counted["latency_us"]
        yield spent | {
            "connections": count, "core_share": spent["cpu_seconds"] / elapsed, "polls": counted["requests"],
            "p50_ms": latency["p50"] / 1000, "p99_ms": latency["p99"] / 1000, "max_ms": latency["max"] / 1000,
        }

    return servers, run.turns(servers, measure, rounds=run.long_rounds)


def established():
    """TCP sockets in use on this machine."""
    return int(re.search(r"^TCP: inuse (\d+)", Path("/proc/net/sockstat").read_text(), re.M)[1])


SCENES = [
    Scene(
        "churn", "Connect, ask once, close",
        f"{CLIENTS} clients, each of which connects again as soon as its answer has come and it has closed.",
        [Figure("cpu_us_per_connection", "CPU time per connection", "µs"), Figure("connections_per_second", "connections a second", "/s", 0, False)],
        [Target("cpu_us_per_connection", 0.88, under="nginx"), Target("cpu_us_per_connection", 1.05, under="h2o")],
        churn, lambda args, peers: args.rounds * (1 + peers) * (1.5 + args.seconds) / 60,
    ),
    Scene(
        "idle", "Private memory per idle connection",
        f"16,000 connections that have each had one answer and say nothing, less the first {WARMED}. What a server sets up at its start, "
        "such as nginx's table of connections, is not in it, and the kernel's sockets come on top, the same for all.",
        [Figure("bytes_per_connection", "private bytes per idle connection", "bytes", 0), Figure("private_mib", "private memory in all", "MiB", 1)],
        [Target("bytes_per_connection", 280)],
        idle, lambda args, peers: min(args.rounds, 3) * peers * 11 / 60,
    ),
    Scene(
        "crowd", "100,000 browsers that poll every ten seconds",
        "10,000 requests a second on 100,000 connections: of what a core does for them, and how long they wait, from when a request was due.",
        [Figure("core_share", "share of a core", "of a core", 3), Figure("p99_ms", "99th percentile of latency", "ms"), Figure("p50_ms", "median latency", "ms")],
        [Target("core_share", 1.2, under="floor"), Target("p99_ms", 10)],
        crowd, lambda args, peers: min(args.rounds, 3) * 2 * 34 / 60, peers=False,
    ),
]
