"""Keep-alive pollers in a process of their own, as many as asked: each polls one file and judges every answer it gets.

    with Pollers(port, count, period, judge) as pollers: ...; pollers.mark(); ...; met = pollers.stop()

A poller has one connection at a time, asks at intervals of about `period` seconds, and connects anew where an answer said
`Connection: close`. What is counted as failed: a request whose answer is not whole when the connection ends, whichever way it
ends, or that is not answered within PATIENCE; a connection that is refused; an answer that is neither 200 nor 304. Apart from
those are counted connections that the server closed while no request was on them, and answers older than one before.
"""

import errno
import heapq
import multiprocessing
import random
import re
import select
import socket
import time

PATIENCE = 10.0
SHARE_CONDITIONAL = 2  # one of so many polls with If-None-Match, so gets mostly 304

COUNTS = (
    *("requests", "answers", "not_modified", "connections", "last_answers"),
    *("failed", "refused", "resets", "cut", "late", "bad_status", "wrong_content"),
    *("idle_closes", "went_back", "one_date_for_two"),
)


class Pollers:
    """`judge(path, body)` is the number of the version that the body is, or None where it is none. `greeting(number)` is what a
    poller says before its first request on a connection."""

    def __init__(self, port, count, period, paths, judge, greeting=None):
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        work = (theirs, port, count, period, paths, judge, greeting)
        self.process = context.Process(target=run, args=work, daemon=True)

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        if self.process.is_alive():
            self.process.kill()
        self.process.join()

    def mark(self):
        """What comes from now on is counted apart from what came before. What came before."""
        self.pipe.send("mark")
        return self.pipe.recv()

    def stop(self):
        self.pipe.send("stop")
        return self.pipe.recv()


def run(*work):
    Crowd(*work).run()


class Crowd:
    def __init__(self, pipe, port, count, period, paths, judge, greeting):
        self.pipe, self.address, self.period, self.judge = pipe, ("127.0.0.1", port), period, judge
        self.greeting = greeting
        self.epoll = select.epoll()
        self.epoll.register(pipe.fileno(), select.EPOLLIN)
        self.known, self.dates = {}, {}
        now = time.monotonic()
        self.pollers = [Poller(number, paths[number % len(paths)]) for number in range(count)]
        self.due = [(now + period * poller.number / count, poller.number) for poller in self.pollers]
        self.by_descriptor = {}
        self.begin()

    def begin(self):
        self.counts = dict.fromkeys(COUNTS, 0)
        self.seconds, self.examples = [], []

    def run(self):
        while True:
            timeout = max(0, min(self.due[0][0] - time.monotonic(), 0.5))
            for descriptor, _ in self.epoll.poll(timeout):
                if descriptor != self.pipe.fileno():
                    self.on_ready(self.by_descriptor.get(descriptor))
                elif self.obey(self.pipe.recv()):
                    return
            now = time.monotonic()
            while self.due[0][0] <= now:
                poller = self.pollers[self.due[0][1]]
                heapq.heapreplace(self.due, (self.next_time(now), poller.number))
                self.on_time(poller, now)

    def obey(self, word):
        ends = word == "stop"
        ordered = sorted(self.seconds)
        met = self.counts | {"examples": self.examples}
        if ordered:
            at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]
            met["seconds"] = {"p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": ordered[-1]}
        self.begin()
        self.pipe.send(met)
        return ends

    def next_time(self, now):
        return now + self.period * random.uniform(0.8, 1.2)

    def on_time(self, poller, now):
        if poller.asked:
            if now - poller.asked > PATIENCE:
                self.fail(poller, "late", "no answer in time")
            return
        if poller.socket is None and not self.connect(poller):
            return
        self.ask(poller)

    def connect(self, poller):
        poller.socket = socket.socket()
        # On loopback it is done, or refused, at once.
        try:
            poller.socket.settimeout(PATIENCE)
            poller.socket.connect(self.address)
        except OSError as error:
            self.count("requests")
            self.fail(poller, "refused", str(error))
            return False
        poller.socket.setblocking(False)
        poller.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # It goes out in one packet with the request that follows.
        poller.said = self.greeting(poller.number) if self.greeting else b""
        self.by_descriptor[poller.socket.fileno()] = poller
        self.epoll.register(poller.socket.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
        self.count("connections")
        return True

    def ask(self, poller):
        fields = [f"GET {poller.path} HTTP/1.1", "Host: localhost"]
        if poller.tag and random.randrange(SHARE_CONDITIONAL) == 0:
            fields.append(f"If-None-Match: {poller.tag}")
        self.count("requests")
        poller.asked = time.monotonic()
        try:
            said, poller.said = poller.said, b""
            poller.socket.send(said + "\r\n".join([*fields, "", ""]).encode())
        except OSError as error:
            self.fail(poller, reason(error), f"not sent: {error}")

    def on_ready(self, poller):
        if poller is None:
            return
        try:
            more = poller.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            if poller.asked:
                self.fail(poller, reason(error), f"after {len(poller.got)} bytes: {error}")
            else:
                self.count("resets", "idle_closes")
                self.close(poller)
            return
        poller.got += more
        if not poller.asked:
            self.count("idle_closes")
            self.close(poller)
        elif not more:
            self.fail(poller, "cut", f"ended after {len(poller.got)} bytes: {poller.got[:80]!r}")
        else:
            self.on_bytes(poller)

    def on_bytes(self, poller):
        head, end, body = poller.got.partition(b"\r\n\r\n")
        if not end:
            return
        status = int(head[9:12])
        fields = head.lower()
        length = re.search(rb"\r\ncontent-length: (\d+)", fields)
        if len(body) < int(length[1] if length else 0):
            return
        self.seconds.append(time.monotonic() - poller.asked)
        poller.asked, poller.got = None, b""
        self.count("answers")
        if status == 304:
            self.count("not_modified")
        elif status != 200:
            self.fail(poller, "bad_status", head.decode("latin-1"))
            return
        else:
            self.check(poller, head, body)
        if b"\r\nconnection: close" in fields:
            self.count("last_answers")
            self.close(poller)

    def check(self, poller, head, body):
        key = poller.path, body
        version = self.known.get(key)
        if version is None:
            version = self.known[key] = self.judge(poller.path, body)
        if version is None:
            self.count("failed", "wrong_content")
            self.example(f"{poller.path}: {body[:80]!r}")
            return
        if version < poller.version:
            self.count("went_back")
            self.example(f"{poller.path}: {version} after {poller.version}")
        poller.version = version
        tag = re.search(rb"\r\nETag: ([^\r]+)", head)
        poller.tag = tag[1].decode() if tag else None
        if date := re.search(rb"\r\nLast-Modified: ([^\r]+)", head):
            if self.dates.setdefault((poller.path, date[1]), version) != version:
                self.count("one_date_for_two")
                self.example(f"{poller.path}: {version} under {date[1].decode()}, as another was")

    def fail(self, poller, how, what):
        self.count("failed", how)
        self.example(f"{how}: {what}")
        self.close(poller)

    def close(self, poller):
        if poller.socket is not None:
            self.by_descriptor.pop(poller.socket.fileno(), None)
            poller.socket.close()
        poller.socket, poller.asked, poller.got = None, None, b""

    def count(self, *names):
        for name in names:
            self.counts[name] += 1

    def example(self, text):
        if len(self.examples) < 20:
            self.examples.append(f"{time.strftime('%H:%M:%S')} {text}")


class Poller:
    def __init__(self, number, path):
        self.number, self.path = number, path
        self.socket, self.tag, self.version = None, None, -1
        self.asked, self.got, self.said = None, b"", b""


def reason(error):
    return "resets" if error.errno in (errno.ECONNRESET, errno.EPIPE) else "cut"
