"""What the benchmarks here share: servers pinned to a core, wrk on another, CPU accounting, figures and charts."""

import datetime
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

CLIENTS = 64

# What Chrome sends for a script of the same site, but for Host.
BROWSER = {
    "Connection": "keep-alive",
    "sec-ch-ua-platform": '"Windows"',
    "User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 "
    "(KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "sec-ch-ua": '"Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"',
    "sec-ch-ua-mobile": "?0",
    "Accept": "*/*",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "no-cors",
    "Sec-Fetch-Dest": "script",
    "Referer": "https://www.example.com/markets/overview",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-US,en;q=0.9",
}


def pin():
    """Gives the server and the client a core each; this process and what it starts are the client."""
    # These unwind like Ctrl-C, so that servers are stopped and their directory is removed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        say("one core only: client and server share it")
    server_core, client_core = cores[0], cores[min(1, len(cores) - 1)]
    os.sched_setaffinity(0, {client_core})
    return server_core, client_core


def raise_descriptor_limit():
    """Servers inherit it. The kernel may allow a billion, and some would allocate for them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = hard if 0 <= hard < 65536 else 65536
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def favour(task):
    """Lets a thread run before all ordinary ones, as soon as it has something to do: other work on this machine is no part
    of what is measured."""
    try:
        os.sched_setscheduler(task, os.SCHED_FIFO, os.sched_param(1))
        return True
    except OSError:
        return False


# Servers


class Server:
    """A server that is started afresh for every round, alone on its core, or on several.

    `path` is what it is asked for; `check` is called with the server once it has answered. `config` is a file of peers/, and
    `marks` are what is filled in there and in the command, besides what every server is told.
    """

    patience = 10  # seconds until the first answer

    def __init__(self, name, command, version, work, core, path, check, config=None, marks=None):
        self.name, self.command, self.version = name, [str(word) for word in command], version
        self.work, self.path, self.check = work, path, check
        self.cores = {core} if isinstance(core, int) else set(core)
        self.template, self.config = config, config and (HERE / "peers" / config).read_text()
        self.marks = marks or {}

    def __enter__(self):
        self.port = free_port()
        known = self.marks | {
            "@DIR@": self.work,
            "@PORT@": self.port,
            "@CONNECTIONS@": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        }
        if self.config:
            (self.work / self.template).write_text(fill(self.config, known))
        self.log = open(self.work / f"{self.name}.out", "w+")
        self.process = subprocess.Popen(
            [fill(word, known) for word in self.command],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            # A session of its own: by it all its processes are found, and Ctrl-C is ours alone.
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
        )
        try:
            self.head, self.body = self.first_answer()
            self.check(self)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for sign, patience in ((signal.SIGTERM, 3), (signal.SIGKILL, 10)):
            try:
                os.killpg(self.process.pid, sign)
                self.process.wait(patience)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()
        self.log.close()

    def first_answer(self):
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
                    head, body = exchange(client, self.request())
                    # A server that loads its files after it listens says 404 or 503 until then.
                    if head.startswith("HTTP/1.1 200"):
                        return head, body
            except OSError:
                pass  # not listening yet
            time.sleep(0.02)
        self.log.seek(0)
        logs = [self.log.read(), *(p.read_text() for p in self.work.glob(f"{self.name}.log"))]
        fail(f"{self.name} does not serve {self.path[:80]}; it said:\n" + "\n".join(logs)[-2000:])

    def request(self, path=None, fields=()):
        fields = {"Host": f"127.0.0.1:{self.port}"} | BROWSER | dict(fields)
        lines = [f"GET {path or self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
        return "\r\n".join(lines).encode()

    def shown_command(self):
        """Names instead of paths: where a reader has them is the reader's affair."""
        words = [fill(Path(word).name if Path(word).is_file() else word, {self.work: "@DIR@", ROOT: "."}) for word in self.command]
        return " ".join(words)

    def processes(self):
        """Those of its session: the fourth field after the command's closing parenthesis."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                if stat.read_text().rpartition(")")[2].split()[3] == str(self.process.pid):
                    found.append(stat.parent)
            except (FileNotFoundError, ProcessLookupError):
                pass  # ended meanwhile
        return found

    def cpu(self):
        """User and system time so far: of all processes in ticks, and of each thread, by name and number, in ns."""
        ticks, threads = 0, {}
        for process in self.processes():
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            for task in process.glob("task/*"):
                try:
                    name, spent = (task / "comm").read_text().strip(), (task / "schedstat").read_text()
                    threads[name, task.name] = int(spent.split()[0])
                except (FileNotFoundError, ProcessLookupError):
                    pass  # ended meanwhile
        return ticks, threads

    def private(self):
        """Bytes of memory that are the server's alone."""
        rollups = ((process / "smaps_rollup").read_text() for process in self.processes())
        kilobytes = (
            re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", text, re.M) for text in rollups
        )
        return 1024 * sum(int(number) for found in kilobytes for number in found)


# Requests


def cost(server, seconds, *script, **how):
    """CPU time per request of a server that is warm."""
    before = server.cpu()
    measured = wrk(server, seconds, *script, **how)
    spent = between(before, server.cpu())
    cpu = spent["cpu_seconds"]
    return measured | {"server": server.name, **spent, "cpu_us_per_request": cpu * 1e6 / measured["requests"]}


def between(before, after):
    """CPU time between two readings of a server's clocks."""
    (ticks_before, threads_before), (ticks_after, threads_after) = before, after
    # The threads' own clocks are exact, but one that ended takes its time with it; the process's
    # keeps that, in steps of 10 ms.
    exact = threads_before.keys() <= threads_after.keys() and bool(threads_before)
    if exact:
        cpu = (sum(threads_after.values()) - sum(threads_before.values())) / 1e9
    else:
        cpu = (ticks_after - ticks_before) / os.sysconf("SC_CLK_TCK")
    threads = by_name(threads_before, threads_after)
    return {"cpu_seconds": cpu, "clock": "schedstat" if exact else "stat", "threads": threads}


def by_name(before, after):
    """Seconds of CPU time between two readings."""
    spent = {}
    for (name, number), now in after.items():
        spent[name] = spent.get(name, 0) + (now - before.get((name, number), 0)) / 1e9
    return {name: seconds for name, seconds in sorted(spent.items()) if seconds > 0}


def wrk(server, seconds, *script, connections=CLIENTS, fields=()):
    """Asks for the server's path, or for what a script and its words say."""
    fields = [word for key, value in (BROWSER | dict(fields)).items() for word in ("-H", f"{key}: {value}")]
    script = [str(word) for word in script]
    lua, words = (["-s", script[0]], ["--", *script[1:]]) if script else ([], [])
    url = f"http://127.0.0.1:{server.port}{'/' if script else server.path}"
    command = [locate("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", *fields, *lua, url, *words]
    # A busy machine may leave the client no turn in a second: that is no failure of the server's.
    for _ in range(5):
        done = subprocess.run(command, capture_output=True, text=True)
        counted = re.search(r"(\d+) requests in ", done.stdout)
        if not counted or int(counted[1]) > 0:
            break
    rate = re.search(r"Requests/sec: +([\d.]+)", done.stdout)
    # wrk prints these two lines only when there is something to say.
    trouble = re.findall(r"(Socket errors:.*|Non-2xx.*)", done.stdout)
    if done.returncode or not counted or not rate or trouble or int(counted[1]) == 0:
        fail(f"wrk against {server.name}: {'; '.join(trouble) or done.stdout + done.stderr}")
    measured = {"requests": int(counted[1]), "requests_per_second": float(rate[1])}
    if received := re.search(r"^bytes received: (\d+)$", done.stdout, re.M):
        measured["wire_bytes"] = int(received[1]) / measured["requests"]
    return measured


def connect(server):
    client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def exchange(client, request):
    """One request, one answer: its head and its body, out of its chunks."""
    client.sendall(request)
    data = b""
    while True:
        head, end, rest = data.partition(b"\r\n\r\n")
        if end and (body := whole(head.lower(), rest)) is not None:
            return head.decode("latin-1"), body
        more = client.recv(65536)
        if not more:
            raise ConnectionError("the connection ended inside an answer")
        data += more


def whole(head, rest):
    """The body, or None while some of it is to come."""
    if head.startswith(b"http/1.1 304 "):
        return b""
    if length := re.search(rb"\r\ncontent-length: *(\d+)", head):
        return rest if len(rest) >= int(length[1]) else None
    if b"\r\ntransfer-encoding: chunked" not in head:
        raise ConnectionError("an answer without a length")
    body = b""
    while True:
        size, end, rest = rest.partition(b"\r\n")
        if not end or len(rest) < int(size, 16) + 2:
            return None
        if int(size, 16) == 0:
            return body
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


# Figures


def provenance(args, server_core, client_core):
    commit = output_of(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"]) or None
    changed = bool(
        output_of(["git", "-C", ROOT, "status", "--porcelain", "--", "src", "tools", "Cargo.lock"])
    )
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.M)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit,
        "changed_since_commit": changed,
        "quick": args.quick,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": model[1] if model else platform.machine(),
        # Of the minute before: a busy machine explains a wide spread.
        "load_average": os.getloadavg()[0],
        "cores": {"online": os.cpu_count(), "server": server_core, "client": client_core},
    }


def of_servers(servers):
    """What was run, and with which configurations."""
    wrk_version = version_of([locate("wrk"), "-v"]) if locate("wrk") else None
    return {
        "versions": {server.name: server.version for server in servers} | {"wrk": wrk_version},
        "commands": {server.name: server.shown_command() for server in servers},
        "request_headers": BROWSER,
        "configs": {s.template: s.config for s in servers if s.config},
    }


def ratios(rounds, key, pairs):
    """The median over the rounds of one server's figure by another's in the same round."""
    figures = {(entry["round"], entry["server"]): entry[key] for entry in rounds}
    found = []
    for over, under, target in pairs:
        values = [
            figure / figures[number, under]
            for (number, name), figure in figures.items()
            if name == over and (number, under) in figures
        ]
        if values:
            found.append({"over": over, "under": under, "target": target} | middle(values))
    return found


def middle(values):
    return {"median": median(values), "min": min(values), "max": max(values)}


# Reports


def footer(result, name, how):
    """Below the tables of a page: what was run, and where."""
    changed = ", with uncommitted changes" if result["changed_since_commit"] else ""
    made = [
        how,
        f"commit {result['commit'] or 'none'}{changed}",
        result["date"][:10],
        result["kernel"],
        f"{result['processor']}, a core for the server and a core for the client",
        *(f"{program}: {version}" for program, version in result["versions"].items() if version),
        f"raw: [{name}.json]({name}.json)",
    ]
    quick = ["", "**A quick run: these figures mean nothing.**"] if result["quick"] else []
    return [*(f"- {line}" for line in made), *quick]


def write(folder, name, files):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, content in files.items():
        (folder / f"{name}.{kind}").write_text(content + "\n")


def spread(figure, digits):
    median, least, most = (f"{figure[key]:.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} | {least}–{most}"


def chart(title, note, bars, digits, left=90):
    """Horizontal bars with min–max whiskers.

    It brings a light card of its own: an image is given no colours by the page around it, and so it
    reads the same on light and dark.
    """
    width, row, top = 510 - left, 34, 52
    most = max(figure["max"] for _, figure in bars) or 1
    height = top + row * len(bars) + 34
    dark, grey = "#1f2328", "#59636e"

    def x(value):
        return round(left + width * max(value, 0) / most, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 {height}" width="600" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="14" role="img" '
        f'aria-label="{title}">',
        f'<rect x=".5" y=".5" width="599" height="{height - 1}" rx="8" fill="#fff" stroke="#d0d7de"/>',
        f'<text x="16" y="30" font-size="16" font-weight="600" fill="{dark}">{title}</text>',
    ]
    for index, (name, figure) in enumerate(bars):
        y = top + row * index
        value, low, high = (x(figure[key]) for key in ("median", "min", "max"))
        colour = "#0969da" if "cloudia" in name else "#9aa4af"
        parts += [
            f'<text x="{left - 10}" y="{y + 17}" text-anchor="end" fill="{dark}">{name}</text>',
            f'<rect x="{left}" y="{y}" width="{value - left:.1f}" height="24" fill="{colour}"/>',
            f'<path d="M{low} {y + 12}H{high}" stroke="{dark}" stroke-width="2"/>',
            f'<text x="{high + 8:.1f}" y="{y + 17}" fill="{dark}">'
            f'{figure["median"]:.{digits}f}</text>',
        ]
    parts.append(f'<text x="16" y="{height - 14}" font-size="12" fill="{grey}">{note}</text>')
    return "\n".join([*parts, "</svg>"])


# Small things


def locate(tool):
    """Debian keeps servers where a user's PATH does not look."""
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fill(text, known):
    for mark, value in known.items():
        text = text.replace(str(mark), str(value))
    return text


def output_of(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""


def version_of(command):
    """The first line; wrk says its version and exits with 1."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    line = (done.stdout + done.stderr).strip().partition("\n")[0]
    return line.removeprefix("nginx version: ").partition(" Copyright")[0]


def shown(path):
    path = Path(path).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def progress(measured, form):
    print(f"{measured['round'] + 1}  {measured['server']:8}" + form.format(**measured), flush=True)


def say(message):
    print(f"bench: {message}", file=sys.stderr, flush=True)


class Failed(SystemExit):
    """What ends a run, unless it is a peer's own affair."""


def fail(message):
    raise Failed(f"bench: {message}")


