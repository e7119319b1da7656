"""Scenes of requests on connections that stay: poll, revalidate, pipeline, mixed and large."""

import os
import time
from statistics import median

import files
from common import BROWSER, CLIENTS, HERE, connect, cost, exchange, fail, wrk
from peers import same, same_list, validator
from turns import BEST, Figure, Scene, Target

CPU = Figure("cpu_us_per_request", "CPU time per request", "µs")
RATE = Figure("requests_per_second", "requests a second, as the client saw them", "requests/s", 0, False)
MANY = 1000
TICKS = os.sysconf("SC_CLK_TCK")
DEPTH = 16
LISTED = HERE / "requests.lua"


def warm(run, server, *script, **how):
    """Caches, lazily made state, the first page faults; and what cloudia compresses again is done."""
    if not run.quick:
        wrk(server, 1, *script, **how)
        until_quiet(server)


def until_quiet(server, stretch=0.1, patience=120):
    """Until the server has had nothing to do for so long: what was loaded may be compressed again as well as it will be."""
    deadline, spent = time.monotonic() + patience, None
    while spent != (spent := server.cpu()[0]) and time.monotonic() < deadline:
        time.sleep(stretch)


def poll(run):
    site = files.small(run.work / "poll")
    servers = run.contenders(site, files.SMALL, same(site, files.SMALL))

    def measure(server, _):
        warm(run, server)
        for connections in (CLIENTS, MANY):
            if connections == CLIENTS or not run.quick or server.name in ("cloudia", "nginx"):
                yield {"variant": f"{connections} connections"} | cost(server, run.seconds, connections=connections)

    return servers, run.turns(servers, measure)


def revalidate(run):
    site = files.small(run.work / "revalidate")
    servers = run.contenders(site, files.SMALL, same(site, files.SMALL), "--revalidate")

    def measure(server, _):
        warm(run, server)
        for name in ("If-Modified-Since", "If-None-Match"):
            fields = validator(server, name)
            with connect(server) as client:
                head, _ = exchange(client, server.request(fields=fields))
                if not head.startswith("HTTP/1.1 304"):
                    fail(f"{server.name} answers {fields} with {head.splitlines()[0]}")
            yield {"variant": name, "head_bytes": len(head) + 4} | cost(server, run.seconds, fields=fields)

    return servers, run.turns(servers, measure)


def pipeline(run):
    site = files.small(run.work / "pipeline")
    listed = run.work / "pipeline.txt"
    files.write_requests(listed, [(files.SMALL, {})] * DEPTH)
    # Sixteen heads of a browser are eight kilobytes.
    servers = run.contenders(site, files.SMALL, same(site, files.SMALL), head_buffer="16k")

    def measure(server, _):
        warm(run, server, LISTED, listed, DEPTH)
        entry = cost(server, run.seconds, LISTED, listed, DEPTH)
        yield entry | {"requests_per_core": 1e6 / entry["cpu_us_per_request"]}

    return servers, run.turns(servers, measure)


def large(run):
    site = files.large(run.work / "large")
    listed = run.work / "large.txt"
    files.write_requests(listed, [(files.LARGE, {})])
    servers = run.contenders(site, files.LARGE, same(site, files.LARGE), large=True)

    def measure(server, _):
        warm(run, server, LISTED, listed)
        for connections in (8, 500):
            entry = cost(server, run.seconds, LISTED, listed, connections=connections)
            # What came of answers that the end cut short counts too: it was sent.
            bits = entry["wire_bytes"] * entry["requests"] * 8 / 1e9
            yield entry | {"variant": f"{connections} connections", "gigabits_per_cpu_second": bits / entry["cpu_seconds"]}

    return servers, run.turns(servers, measure)


def mixed(run):
    site = files.mixed(run.work / "mixed", 0.03 if run.quick else 1)
    asked = files.requests(site, count=2000 if run.quick else files.REQUESTS)
    listed = run.work / "mixed.txt"
    files.write_requests(listed, asked)
    servers = [s for s in run.contenders(site, asked[0][0], same_list(site, asked)) if s.name != "floor"]

    def closed(server, _):
        # The whole list once: every cache has what it can hold.
        wrk(server, 1 if run.quick else 2, LISTED, listed)
        until_quiet(server)
        yield cost(server, run.seconds, LISTED, listed)

    rounds = run.turns(servers, closed)
    rate = half_of_nginx(run, rounds)

    def constant(server, _):
        wrk(server, 1 if run.quick else 2, LISTED, listed)
        before = server.cpu()
        counted = run.crowd(server, "poll", headers=BROWSER, requests=listed, connections=CLIENTS, rate=rate, seconds=run.seconds)
        latency = counted["latency_us"]
        yield {
            "variant": "half load", "rate": rate, "p50_us": latency["p50"], "p99_us": latency["p99"],
            "p999_us": latency["p999"], "answers": counted["answers"],
            "server_core_share": (server.cpu()[0] - before[0]) / TICKS / run.seconds,
        }

    most = capacity(rounds)
    able = [server for server in servers if most.get(server.name, 0) > 1.2 * rate]
    rounds += run.turns(able, constant)
    run.note(f"Half load is {rate} requests a second for every server: half of what nginx answered from a full core.")
    if unable := [name for name in most if name not in {server.name for server in able}]:
        run.note(f"No latency at half load of {' and '.join(unable)}: that is more than a core of theirs answers, or nearly as much.")
    return servers, rounds


def capacity(rounds):
    """Requests a second of a full core, whatever the client had to spare."""
    names = dict.fromkeys(entry["server"] for entry in rounds)
    return {name: 1e6 / median(e["cpu_us_per_request"] for e in rounds if e["server"] == name) for name in names}


def half_of_nginx(run, rounds):
    """One rate for all: half of what the slowest serious peer manages on its core."""
    nginx = capacity(rounds).get("nginx")
    return 2000 if run.quick or not nginx else int(round(nginx / 2, -3))


def minutes(variants, warming=1.5):
    """Of starting and warming each server, and of measuring it. Two peers take half as many turns."""
    return lambda args, peers: args.rounds * (2 + peers - 0.6 * min(peers, 2)) * (warming + variants * args.seconds) / 60


SCENES = [
    Scene(
        "poll", "Polling one small file",
        "Browsers on kept-alive connections ask for one JavaScript file of 2 KB, about 600 bytes compressed, again and again.",
        [CPU, RATE],
        [Target(CPU.key, 1.10, under="floor"), Target(CPU.key, 0.62, under="nginx"), Target(CPU.key, 0.82, under="h2o")],
        poll, minutes(2),
    ),
    Scene(
        "revalidate", "Asking whether it has changed",
        "The same, but each request says what it has: by date (`If-Modified-Since`) or by `If-None-Match`, and the answer is 304.",
        [CPU, RATE],
        [Target(CPU.key, 0.80, under="nginx"), Target(CPU.key, 1.10, under="floor")],
        revalidate, minutes(2),
    ),
    Scene(
        "mixed", "A mixture over 10,000 files",
        "60 % of the requests are answered 304, 35 % with a small file, 5 % with one of 50 KB compressed; which of 10,000 files follows Zipf's law. "
        "CPU time is counted with 64 connections that ask as fast as they are answered; latency at a constant rate, from when a request was due.",
        [CPU, RATE, Figure("p99_us", "99th percentile of latency at half load", "µs", 0), Figure("p50_us", "median latency at half load", "µs", 0),
         Figure("server_core_share", "the server at half load", "of a core")],
        [Target(CPU.key, 1.0, under=BEST, variant=""), Target("p99_us", 1.03, under="nginx", variant="half load")],
        mixed, minutes(1.7, 4),
    ),
    Scene(
        "pipeline", "Sixteen requests at once",
        "Each connection sends sixteen requests in one packet and waits for sixteen answers.",
        [Figure("requests_per_core", "requests per second of CPU time", "requests", 0, False), CPU],
        [Target("requests_per_core", 3, under="nginx", sense="≥")],
        pipeline, minutes(1),
    ),
    Scene(
        "large", "A file of 1 MB that nothing compresses",
        "What a server's core can send; nginx and lighttpd with sendfile.",
        [Figure("gigabits_per_cpu_second", "gigabits per second of CPU time", "Gb", 1, False)],
        [Target("gigabits_per_cpu_second", 1.0, under="nginx", sense="≥")],
        large, minutes(2),
    ),
]
