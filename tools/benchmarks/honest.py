"""Honest clients that know what the right answer is: each changes something and insists on seeing the change.

    follower = Checker(follow, port, data, seed); follower.start(); ...; met = follower.stop()

A checker is a process of its own. It counts what it does, and as "failed" every answer that is late, torn, older than one before,
or no answer at all. An answer that says `Connection: close` is a whole one; the next request goes out on a new connection.
"""

import json
import multiprocessing
import os
import random
import re
import socket
import time

from common import whole

PATIENCE = 10.0
# How long a change may take to be seen. It takes milliseconds; a machine that is busy with attackers may be slower, and a take-over
# pauses what feeders send.
FRESH = 5.0


class Checker:
    """Runs `scene(tally, *words)`, which ends soon after `tally.over()` is true."""

    def __init__(self, scene, *words):
        self.name = scene.__name__
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=run, args=(theirs, scene, words), daemon=True)

    def start(self):
        self.process.start()
        return self

    def stop(self):
        self.pipe.send("stop")
        try:
            return self.pipe.recv()
        except EOFError:
            return {"failed": 1, "examples": [f"{self.name} has ended by itself"]}
        finally:
            self.process.join()


def run(pipe, scene, words):
    tally = Tally(pipe)
    while not tally.over():
        try:
            scene(tally, *words)
        except (OSError, Wrong) as error:
            tally.fail(f"{scene.__name__}: {type(error).__name__}: {error}")
            time.sleep(0.05)
    pipe.send(tally.report())


class Tally:
    def __init__(self, pipe):
        self.pipe, self.counts, self.examples, self.seconds = pipe, {"requests": 0, "failed": 0}, [], []

    def over(self):
        return self.pipe.poll()

    def count(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1

    def fail(self, what):
        self.count("failed")
        if len(self.examples) < 20:
            self.examples.append(f"{time.strftime('%H:%M:%S')} {what}"[:300])

    def report(self):
        ordered = sorted(self.seconds)
        at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        seen = {"p50": at(0.5), "p99": at(0.99), "max": ordered[-1]} if ordered else None
        return self.counts | {"seen_after_s": seen, "examples": self.examples}


class Wrong(Exception):
    """An answer that nobody should get."""


class Client:
    """One connection at a time, opened when it is needed."""

    def __init__(self, tally, port, greeting=b""):
        self.tally, self.port, self.greeting, self.socket, self.rest = tally, port, greeting, None, b""

    def get(self, path):
        return self.pipeline([path])[0]

    def pipeline(self, paths):
        """Asks for all in one write; the answers in order. What is behind a last answer is asked again on a new connection."""
        answers = []
        while len(answers) < len(paths):
            missing, greeting = paths[len(answers):], b""
            if self.socket is None:
                self.socket, greeting = socket.create_connection(("127.0.0.1", self.port), PATIENCE), self.greeting
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lines = "".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in missing)
            try:
                self.socket.sendall(greeting + lines.encode())
                for _ in missing:
                    status, body, closes = self.answer()
                    answers.append((status, body))
                    if closes:
                        self.close()
                        break
            except OSError:
                self.close()
                raise
        return answers

    def answer(self):
        while True:
            head, end, rest = self.rest.partition(b"\r\n\r\n")
            if end:
                fields = head.lower()
                body = whole(fields, rest)
                if body is not None:
                    length = int(re.search(rb"\r\ncontent-length: *(\d+)", fields)[1])
                    self.rest = rest[length:]
                    self.tally.count("requests")
                    return int(head[9:12]), body[:length], b"\r\nconnection: close" in fields
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError(f"the connection ended after {len(self.rest)} bytes of an answer")
            self.rest += more

    def close(self):
        self.socket.close()
        self.socket, self.rest = None, b""


# Files


def follow(tally, port, data, seed):
    """Changes a file in a way of a publisher's and asks for it until the change is there; nothing but old and new may come."""
    dice = random.Random(f"{seed} {time.monotonic()}")
    client, number = Client(tally, port), 0
    places = [data / f"followed{place}.js" for place in range(8)]
    now = {}
    for place in places:
        number += 1
        now[place] = content(number, dice)
        rename(place, now[place])
    for place in places:
        await_answer(tally, client, place, None, now[place])
    ways = [in_place, rename, recreate, fleeting]
    while not tally.over():
        number += 1
        place, way, new = dice.choice(places), dice.choice(ways), content(number, dice)
        if way is fleeting:
            come_and_go(tally, client, data / f"fleeting{os.getpid()}-{number}.js", new)
        elif way is recreate:
            place.unlink()
            await_answer(tally, client, place, now[place], None)
            rename(place, new)
            await_answer(tally, client, place, None, new)
        elif way is in_place:
            with open(place, "r+b") as file:
                file.truncate()
                file.write(new[:1000])
                file.flush()
                expect(client, place, [now[place]])
                file.write(new[1000:])
            await_answer(tally, client, place, now[place], new)
        else:
            way(place, new)
            await_answer(tally, client, place, now[place], new)
        now[place] = now[place] if way is fleeting else new
        tally.count(way.__name__)
        expect(client, place, [now[place]])
        time.sleep(dice.uniform(0, 0.1))


def content(number, dice):
    """Between one and sixty kilobytes that end as they begin, so that a torn file shows."""
    mark = b"// %d %08x\n" % (number, dice.getrandbits(32))
    return mark + b"".join(b"line %d of %d\n" % (line, number) for line in range(dice.choice([70, 300, 4000]))) + mark


def in_place(place, new):
    place.write_bytes(new)


def rename(place, new):
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    aside.write_bytes(new)
    aside.rename(place)


def recreate(_, __):
    """Removed, and made again."""


def fleeting(_, __):
    """A file of a new name, and its end."""


def come_and_go(tally, client, place, new):
    rename(place, new)
    try:
        await_answer(tally, client, place, None, new)
    finally:
        place.unlink()
    await_answer(tally, client, place, new, None)


def await_answer(tally, client, place, old, new):
    began = time.monotonic()
    while expect(client, place, [old, new]) != new:
        if time.monotonic() - began > FRESH:
            raise Wrong(f"{place.name}: stale for {FRESH} s")
        time.sleep(0.002)
    tally.seconds.append(time.monotonic() - began)


def expect(client, place, allowed):
    """One of the allowed contents, of which None is 404."""
    status, body = client.get(f"/{place.name}")
    got = None if status == 404 else body
    if status not in (200, 404) or got not in allowed:
        raise Wrong(f"{place.name}: status {status}, {len(body)} bytes that begin {body[:30]!r} and end {body[-30:]!r}")
    return got


# Quotes


SYMBOLS = 50


def tick(tally, port, data, path):
    """A table and a feeder whose symbols all say the same number: no list may ever hold two, or an older one after a newer."""
    client, dice = Client(tally, port), random.Random(str(time.monotonic()))
    feeder, seen, written = None, {"ta": 0, "so": 0}, {"ta": {}, "so": {}}
    number, next_table = time.time_ns() // 1000, 0.0
    try:
        while not tally.over():
            number += 1
            if time.monotonic() >= next_table:
                rename(data / "ticks.quotes", lines_of("ta", number))
                written["ta"][number], next_table = time.monotonic(), time.monotonic() + 0.25
            try:
                if feeder is None:
                    feeder = socket.socket(socket.AF_UNIX)
                    feeder.settimeout(PATIENCE)
                    feeder.connect(path)
                feeder.sendall(lines_of("so", number) + b"\n")
                written["so"][number] = time.monotonic()
            except OSError:
                # Another server has come; it waits for its feeders.
                feeder = None
                tally.count("feeder_reconnects")
            for kind in seen:
                seen[kind] = judge_list(tally, client, dice, kind, seen[kind], written[kind])
            time.sleep(0.05)
    finally:
        if feeder is not None:
            feeder.close()


def lines_of(kind, number):
    return b"".join(b"%s%03d=%d\n" % (kind.encode(), at, number) for at in range(SYMBOLS))


def judge_list(tally, client, dice, kind, before, written):
    names = [f"{kind}{at:03}" for at in dice.sample(range(SYMBOLS), 20)]
    status, body = client.get(f"/list={','.join(names)}&format=json")
    if status != 200:
        raise Wrong(f"list: status {status}")
    found = json.loads(body)
    values = {None if value is None else int(value) for value in found.values()}
    if list(found) != names or len(values) > 1:
        raise Wrong(f"list of {kind}: {values}")
    value = values.pop() or 0
    if value < before:
        raise Wrong(f"list of {kind}: {value} after {before}")
    # What was written so long ago must have been seen.
    late = max((number for number, since in written.items() if time.monotonic() - since > FRESH), default=0)
    if value < late:
        raise Wrong(f"list of {kind}: stale for {FRESH} s")
    for number in [number for number in written if number < late]:
        del written[number]
    return value


# Pipelines


def pipeline(tally, port, paths, seed):
    """Sixteen requests in a write, whose answers must come in their order; files that do not change."""
    client, dice = Client(tally, port), random.Random(seed)
    known = {path: client.get(path) for path in paths}
    while not tally.over():
        asked = [dice.choice(paths) for _ in range(16)]
        if client.pipeline(asked) != [known[path] for path in asked]:
            raise Wrong("pipeline: answers that are not those asked for")
        time.sleep(0.02)
