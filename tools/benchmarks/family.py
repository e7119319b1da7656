"""Servers that take each other's place on one address, and a wrk that goes on until it is stopped."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from common import CLIENTS, exchange, free_port, locate


class Family:
    """All processes of one address: each has the work directory in its command line, and says what it says to the same files."""

    def __init__(self, work, program, grace, cores):
        self.work, self.grace, self.cores = work, grace, cores
        (work / "bin").mkdir(parents=True)
        self.program, self.sound = work / "bin" / "cloudia", work / "bin" / "sound"
        shutil.copy2(program, self.sound)
        self.install()
        self.port, self.admin = free_port(), free_port()
        self.out, self.errors = open(work / "out", "ab"), open(work / "errors", "ab")
        self.processes, self.ended, self.env = [], {}, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.members():
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self.members() and time.monotonic() < deadline:
            time.sleep(0.05)

    def install(self, broken=None):
        """Puts the program in place, or what is none."""
        aside = self.work / "bin" / "next"
        if broken is None:
            os.link(self.sound, aside)
        else:
            aside.write_text(broken)
            aside.chmod(0o755)
        aside.rename(self.program)

    def start(self, data, *flags):
        listen = ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}"]
        command = [self.program, "serve", "--data", data, *listen, "--grace", self.grace, *flags]
        env = {key: value for key, value in os.environ.items() if not key.startswith("CLOUDIA_")} | self.env
        process = subprocess.Popen(
            [str(word) for word in command],
            **{"stdin": subprocess.DEVNULL, "stdout": self.out, "stderr": self.errors, "env": env},
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
        )
        # One that is let go of would be waited for behind our back.
        self.processes.append(process)
        return process.pid

    def said(self, name):
        return (self.work / name).read_text(errors="replace")

    def ready(self):
        """How many have said that they are ready."""
        return len(re.findall(r"^ready ", self.said("out"), re.M))

    def members(self):
        """Those that run; what has ended is noted with its status."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self.ended[pid] = os.waitstatus_to_exitcode(status)
        found, mark = set(), str(self.work).encode()
        for words in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if mark in words.read_bytes():
                    found.add(int(words.parent.name))
            except (FileNotFoundError, ProcessLookupError):
                pass  # ended meanwhile
        return found

    def has_ended(self, pid):
        self.members()
        return pid in self.ended

    def memory(self, pid):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return 1024 * sum(int(kb) for kb in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", text, re.M))

    def descriptors(self, pid):
        """Of every table: the workers have one each, the other threads share one."""
        own = [task for task in Path(f"/proc/{pid}/task").iterdir() if task.name == str(pid) or name_of(task).startswith("worker")]
        return sum(len(list(task.glob("fd/*"))) for task in own)

    def answer(self, path):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            return exchange(client, request.encode())[1]

    def wait(self, what, met, patience=30, meanwhile=lambda: None):
        deadline = time.monotonic() + patience
        while not met():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited in vain until {what}; it said:\n{self.said('out')}{self.said('errors')}"[-3000:])
            meanwhile()
            time.sleep(0.002)


def name_of(task):
    try:
        return (task / "comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # ended meanwhile


class Wrk:
    """wrk until it is stopped."""

    def __init__(self, port, path):
        command = [locate("wrk"), "-t1", f"-c{CLIENTS}", "-d36000s", "-H", "Accept-Encoding: gzip"]
        url = f"http://127.0.0.1:{port}{path}"
        self.process = subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        said, _ = self.process.communicate(timeout=30)
        counted = re.search(r"(\d+) requests in ", said)
        rate = re.search(r"Requests/sec: +([\d.]+)", said)
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
        other = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
        names = ("connect", "read", "write", "timeout")
        counts = dict(zip(names, map(int, errors.groups()))) if errors else dict.fromkeys(names, 0)
        return {
            "connections": CLIENTS,
            "requests": int(counted[1]) if counted else 0,
            "requests_per_second": float(rate[1]) if rate else 0.0,
            "errors": counts | {"other_status": int(other[1]) if other else 0},
        }
