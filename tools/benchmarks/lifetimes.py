"""Scenes of cloudia alone: change, start, cores; and quotes, which tools/benchmarks/quotes measures."""

import json
import multiprocessing
import os
import random
import subprocess
import sys
import time

import files
from common import BROWSER, CLIENTS, HERE, ROOT, between, connect, exchange, fail, wrk
from load import until_quiet
from peers import same
from turns import Crowd, Figure, Scene, Target

CHANGES, CHANGING = 1000, 10_000  # a second, among so many files
PATIENCE = 10.0  # seconds until a change must be served
STARTED = 100_000
RATE = 20_000  # requests a second where cores are compared
LOAD = 10_000  # requests a second under which files change


# change


def change(run):
    site = files.Site(run.work / "change")
    dice = random.Random(6)
    texts = [feed(dice) for _ in range(64)]
    count = 500 if run.quick else CHANGING
    paths = [f"/d{number % 97:02}/f{number}.js" for number in range(count)]
    for number, path in enumerate(paths):
        files.write(site.data / path[1:], texts[number % len(texts)])
    files.write(site.data / "probe.txt", b"0")
    site.texts["/probe.txt"] = b"0"
    listed = run.work / "change.txt"
    files.write_requests(listed, [(path, {}) for path in dice.choices(paths, k=10_000)])
    server = run.stable.cloudia(site, "/probe.txt", lambda _: None)

    def measure(server, number):
        # It compresses again what it has compressed in haste, from a few seconds after it has begun.
        time.sleep(0 if run.quick else 4)
        until_quiet(server, 0.1 if run.quick else 1)
        for changing in (False, True) if number % 2 == 0 else (True, False):
            yield watched(run, server, site.data, [site.data / path[1:] for path in paths], texts, listed, changing)

    rounds = run.turns([server], measure)
    # The two conditions stand beside each other as servers do.
    for entry in rounds:
        entry["server"] = entry.pop("condition")
    return [server], rounds


def watched(run, server, data, paths, texts, listed, changing):
    """Load at a constant rate, and a file that is polled all the time; with changes, that one is among those that change."""
    going = multiprocessing.Event()
    going.set()
    made = multiprocessing.Value("l", 0)
    changer = multiprocessing.Process(target=swap, args=(paths, texts, going, made), daemon=True)
    seen, polls = [], 0
    load = Crowd(run, server, "poll", headers=BROWSER, requests=listed, connections=CLIENTS, rate=LOAD, seconds=run.seconds + 0.5)
    with connect(server) as client, load as clients:
        if changing:
            changer.start()
        time.sleep(0.3)
        before, start, swapped = server.cpu(), time.monotonic(), made.value
        while (now := time.monotonic()) < start + run.seconds:
            text = b"%d" % (time.monotonic_ns() if changing else 0)
            if changing:
                replace(data / "probe.txt", text)
                now = time.monotonic()
            until = now + PATIENCE
            while True:
                polls += 1
                _, body = exchange(client, b"GET /probe.txt HTTP/1.1\r\nHost: h\r\n\r\n")
                moment = time.monotonic()
                if body == text or not changing:
                    break
                if moment > until:
                    fail(f"a change is not served within {PATIENCE:.0f} seconds")
                time.sleep(0.0002)
            if changing:
                seen.append(1000 * (moment - now))
            # Not in step with anything.
            time.sleep(random.uniform(0.002, 0.008))
        elapsed, swapped = time.monotonic() - start, made.value - swapped
        spent = between(before, server.cpu())
        going.clear()
        clients.wait()
    if changing:
        changer.join()
    answered = LOAD * elapsed + polls
    serving = sum(seconds for name, seconds in spent["threads"].items() if name.startswith("worker"))
    entry = spent | {
        "condition": "changing" if changing else "quiet", "polls": polls, "swaps_per_second": swapped / elapsed,
        "serving_us_per_request": serving * 1e6 / answered, "other_core_share": (spent["cpu_seconds"] - serving) / elapsed,
    }
    if changing:
        seen.sort()
        at = lambda share: seen[min(len(seen) - 1, int(share * len(seen)))]
        entry |= {"visible_p50_ms": at(0.5), "visible_p99_ms": at(0.99), "visible_max_ms": seen[-1], "seen": len(seen)}
    return entry


def swap(paths, texts, going, made):
    """Renames a new content over random files, at a constant rate."""
    dice, start = random.Random(7), time.monotonic()
    while going.is_set():
        due = int((time.monotonic() - start) * CHANGES)
        while made.value < due and going.is_set():
            replace(dice.choice(paths), dice.choice(texts))
            made.value += 1
        time.sleep(0.001)


def replace(path, content):
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(content)
    aside.rename(path)


def feed(dice):
    lines = []
    while sum(map(len, lines)) < 4000:
        lines.append(f'var hq_str_s_sz{dice.randrange(900000):06}="name,{dice.random() * 90:.2f},{dice.randrange(10**6)}";\n')
    return "".join(lines).encode()


# start


def start(run):
    count = 2000 if run.quick else STARTED
    folder = run.work / "start"
    print(f"start      writing {count} files", flush=True)
    path, text = files.many(folder, count)
    os.sync()  # what the disk has still to do is no part of a start
    site = files.Site(run.work / "started")
    site.data, asked = folder, "/" + str(path.relative_to(folder))
    site.texts[asked] = text
    # It has all cores that there are, as a server has that starts.
    server = run.stable.cloudia(site, asked, same(site, asked), words="", core=run.stable.all_cores)
    server.patience = 120

    def measure(server, _):
        yield {"seconds_to_ready": server.ready_after, "private_mib": server.private() / 2**20, "cpu_seconds": server.cpu()[0] / 100}

    timed(server)
    rounds = run.turns([server], measure, rounds=run.long_rounds)
    run.note(f"{count} files of 10 kB with a .gz beside each, in a warm page cache; the memory limit is the default. Cores are not pinned.")
    return [server], rounds


def timed(server):
    """Nothing is accepted before all is loaded: the first answer tells the time."""
    first = server.first_answer

    def first_answer():
        begun = time.monotonic()
        answer = first()
        server.ready_after = time.monotonic() - begun
        return answer

    server.first_answer = first_answer


# cores


def cores(run):
    site = files.small(run.work / "cores")
    both = {run.stable.core, run.stable.client_core}
    if len(both) < 2:
        run.note("There is only one core here: nothing to compare.")
        return [], []
    servers = [
        run.stable.cloudia(site, files.SMALL, same(site, files.SMALL), name=name, words=f"--workers {count}", core=both)
        for count, name in ((1, "1 worker"), (2, "2 workers"))
    ]
    rate = 2000 if run.quick else RATE

    def measure(server, _):
        if not run.quick:
            wrk(server, 1)
        until_quiet(server)
        children = os.times()
        before, begun = server.cpu(), time.monotonic()
        counted = run.crowd(server, "poll", headers=BROWSER, path=files.SMALL, connections=CLIENTS, rate=rate, seconds=run.seconds)
        spent, elapsed = between(before, server.cpu()), time.monotonic() - begun
        after = os.times()
        client = after.children_user + after.children_system - children.children_user - children.children_system
        answered = sum(counted["answers"].values()) + sum((counted.get("ramp") or {}).get("answers", {}).values())
        yield spent | {
            "cpu_us_per_request": spent["cpu_seconds"] * 1e6 / answered, "client_core_share": client / elapsed,
            "requests": answered, "rate": rate, "p99_us": counted["latency_us"]["p99"],
        }

    return servers, run.turns(servers, measure)


# quotes


def quotes(run):
    """A program of its own: it has other servers, and pages of its own."""
    words = ["fresh5", "tick"] if run.quick else ["repeat50", "repeat5", "fresh50", "fresh5", "tick"]
    command = [sys.executable, HERE / "quotes", *words, "--output", run.args.output, "--cloudia", run.args.cloudia]
    command += ["--quick"] if run.quick else ["--rounds", min(run.rounds, 3), "--duration", run.args.seconds, "--ticks", 20]
    # It is given back both cores, and pins what it starts by itself.
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {run.stable.core, run.stable.client_core})
    try:
        if subprocess.run([str(word) for word in command], cwd=ROOT).returncode:
            fail("tools/benchmarks/quotes has failed")
    finally:
        os.sched_setaffinity(0, mine)
    return [], []


def quotes_targets(folder):
    """What its page says of targets, in the form of all others."""
    path = folder / "quotes.json"
    if not path.exists():
        return []
    found = []
    scenes = json.loads(path.read_text())["scenes"]

    def add(variant, key, figure, value, target, unit=None, digits=2):
        sense, limit = target
        reached = value["median"] <= limit if sense == "≤" else value["median"] >= limit
        found.append({"variant": variant, "key": key, "figure": figure, "unit": unit, "digits": digits, "sense": sense, "limit": limit,
                      "over": "cloudia", "under": None, **value, "reached": reached})

    once = lambda value: {"median": value, "min": value, "max": value}
    for name, scene in scenes.items():
        for ratio in scene.get("ratios", []):
            if ratio["target"]:
                add(name, "cpu", f"CPU time per request, {ratio['over']} / {ratio['under']}", ratio, ratio["target"])
        sizes = scene.get("bytes", {})
        for against, limit in {"repeat50": [("zlib 6", 1.05)], "fresh5": [("identity", 0.75)]}.get(name, []):
            add(name, "bytes", f"bytes of a body / {against}", once(sizes["sent"] / sizes[against]), ("≤", limit))
        if "visible_ms" in scene:
            add(name, "core", "share of a core", once(scene["core"]), ("≤", scene["targets"]["core"]), "of a core", 3)
            add(name, "p99", "99th percentile until visible", once(scene["visible_ms"]["p99"]), ("≤", scene["targets"]["p99"]), "ms")
    return found


SCENES = [
    Scene(
        "change", "A thousand files change every second",
        f"{CHANGES:,} renames a second among {CHANGING:,} files of 4 KB, under {LOAD:,} requests a second. One file more is replaced and polled all the time: "
        "how long from its rename to its first new answer. CPU time is that of the threads that serve, beside the same load in quiet.",
        [Figure("serving_us_per_request", "CPU time of serving threads per request", "µs"),
         Figure("visible_p99_ms", "99th percentile until visible", "ms"), Figure("visible_p50_ms", "median until visible", "ms"),
         Figure("swaps_per_second", "swaps a second", "/s", 0), Figure("other_core_share", "all other threads", "of a core", 3)],
        [Target("visible_p99_ms", 10, over="changing"), Target("serving_us_per_request", 1.10, over="changing", under="quiet")],
        change, lambda args, peers: (10 + args.rounds * (2 * args.seconds + 5)) / 60, peers=False,
    ),
    Scene(
        "quotes", "Lists of quotes",
        "Joined and compressed for each request: see its own page.",
        [], [], quotes, lambda args, peers: min(args.rounds, 3) * 4 * 3 * (1.6 + args.seconds) / 60 + 1.2, peers=False,
    ),
    Scene(
        "start", "From nothing to 100,000 files",
        "Seconds from the start of the program to its first answer.",
        [Figure("seconds_to_ready", "seconds to ready", "s"), Figure("private_mib", "private memory", "MiB", 0), Figure("cpu_seconds", "CPU time", "s")],
        [Target("seconds_to_ready", 5)],
        start, lambda args, peers: 0.8 + min(args.rounds, 3) * 8 / 60, peers=False,
    ),
    Scene(
        "cores", "One worker and two",
        f"The same {RATE:,} requests a second for one worker and for two. The client shares the second core with the second worker; its share is in the table.",
        [Figure("cpu_us_per_request", "CPU time per request", "µs"), Figure("client_core_share", "the client", "of a core"), Figure("p99_us", "99th percentile of latency", "µs", 0)],
        [Target("cpu_us_per_request", 1.05, over="2 workers", under="1 worker")],
        cores, lambda args, peers: args.rounds * 2 * (2 + args.seconds) / 60, peers=False,
    ),
]
