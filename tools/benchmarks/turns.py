"""A run of the benchmark: what scenes are made of, how servers take turns, and what is made of the figures."""

import dataclasses
import json
import subprocess
import time
from typing import Callable

from common import ROOT, TARGET, Failed, fail, middle, say, shown
from peers import OPTIONAL, SLOW

# The best of all others in a round.
BEST = "the best peer"


@dataclasses.dataclass
class Figure:
    """What is measured: a key of every round, in a unit; less of it is better, or more."""

    key: str
    title: str
    unit: str
    digits: int = 2
    less: bool = True


@dataclasses.dataclass
class Target:
    """A figure of one server, or its ratio to another's in the same round, is at most or at least so much."""

    key: str
    limit: float
    over: str = "cloudia"
    under: str = None
    sense: str = "≤"
    variant: str = None


@dataclasses.dataclass
class Scene:
    """`run` measures and returns rounds, each with `round`, `server`, `variant` and figures, and what else is to be told."""

    name: str
    title: str
    what: str
    figures: list
    targets: list
    run: Callable
    minutes: Callable
    # Whose figures are drawn beside each other in the overview.
    peers: bool = True


class Run:
    """What all scenes share."""

    def __init__(self, args, stable, work):
        self.args, self.stable, self.work = args, stable, work
        self.rounds, self.quick = args.rounds, args.quick
        self.seconds = 1 if args.quick else args.seconds
        # Where a turn is long, fewer of them; the connections of `idle`, and how long allocators get to give back.
        self.long_rounds = min(args.rounds, 3)
        self.idlers, self.settle = (500, 0.1) if args.quick else (16_000, 2.0)
        self.skipped, self.notes = {}, []

    def begin(self, scene):
        self.skipped, self.notes = {name: "not installed" for name in self.stable.missing}, []
        self.scene, self.figures, self.started = scene.name, scene.figures, time.monotonic()

    def contenders(self, site, path, check, *floor, **how):
        """cloudia, the floor with words of its own, and the peers."""
        stable = self.stable
        servers = [stable.cloudia(site, path, check), stable.floor(site, path, lambda _: None, *floor)]
        return servers + [stable.peer(name, site, path, check, **how) for name in self.peers()]

    def skip(self, server, why):
        self.skipped[server] = why

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def peers(self):
        """In a quick run nginx stands for all, but where every configuration is proven."""
        names = [name for name in self.stable.present() if name not in self.skipped]
        return [name for name in names if name == "nginx" or not self.quick or self.scene == "poll"]

    def turns(self, servers, measure, rounds=None):
        """Every server afresh in each round; what each measurement says."""
        found = []
        rounds = rounds or self.rounds
        for number in range(rounds):
            # Nobody always follows the same one.
            at = number % len(servers)
            for server in servers[at:] + servers[:at]:
                if server.name in self.skipped or server.name in SLOW and number >= max(1, rounds // 2):
                    continue
                try:
                    with server:
                        for entry in measure(server, number):
                            found.append({"round": number, "server": server.name} | entry)
                            self.show(found[-1])
                except (Failed, OSError) as trouble:
                    if server.name not in OPTIONAL:
                        raise
                    self.skip(server.name, " ".join(str(trouble).split())[:300])
                    say(f"{self.scene}: without {server.name}: {self.skipped[server.name]}")
        return [entry for entry in found if entry["server"] not in self.skipped]

    def show(self, entry):
        keys = [figure.key for figure in self.figures if figure.key in entry]
        figures = ", ".join(f"{entry[f.key]:.{f.digits}f} {f.unit}" for f in self.figures if f.key in keys)
        print(f"{self.scene:10} {entry['round'] + 1}  {entry['server']:10} {entry.get('variant') or '':18} {figures}", flush=True)

    def crowd(self, server, mode, **words):
        """The crowd client, to its end: what it counted, and its own CPU time."""
        with Crowd(self, server, mode, **words) as crowd:
            return crowd.wait()


class Crowd:
    """tools/crowd, running."""

    def __init__(self, run, server, mode, headers=(), **words):
        command = [run.args.crowd.resolve(), mode, "--addr", f"127.0.0.1:{server.port}"]
        for name, value in words.items():
            command += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
        for key, value in dict(headers).items():
            command += ["--header", f"{key}: {value}"]
        self.server, self.command = server, [str(word) for word in command]
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def wait(self):
        out, complaint = self.process.communicate()
        if self.process.returncode:
            fail(f"crowd ended with {self.process.returncode}: {complaint.decode()[-500:]}")
        result = json.loads(out)
        ramp = result.get("ramp") or {}
        failed = result["failed"] + ramp.get("failed", 0)
        strange = {status: n for status, n in result["answers"].items() if status not in ("200", "304")}
        if failed or strange:
            fail(f"{self.server.name}: {failed} requests of the crowd failed {result['failures']}, answers {strange}")
        return result


# What is made of the rounds


def summarize(scene, rounds):
    """Medians by variant, server and figure, in the order in which they were measured first."""
    found = {}
    for entry in rounds:
        row = found.setdefault(entry.get("variant") or "", {}).setdefault(entry["server"], {})
        for figure in scene.figures:
            if figure.key in entry:
                row.setdefault(figure.key, []).append(entry[figure.key])
    return {
        variant: {server: {key: middle(values) for key, values in row.items()} for server, row in rows.items()}
        for variant, rows in found.items()
    }


def by_round(rounds, key, variant):
    """Figures of each round, by server."""
    found = {}
    for entry in rounds:
        if key in entry and (entry.get("variant") or "") == variant:
            found.setdefault(entry["round"], {})[entry["server"]] = entry[key]
    return found


def ratio(rounds, key, variant, over, under, less=True):
    """Of one server's figure by another's, within each round."""
    values = []
    for row in by_round(rounds, key, variant).values():
        # In rounds without the slow ones the best is still among the others.
        others = [value for name, value in row.items() if name not in ("cloudia", "floor")]
        below = (min(others) if less else max(others)) if under == BEST and others else row.get(under)
        if over in row and below:
            values.append(row[over] / below)
    return middle(values) if values else None


def judged(scene, rounds):
    """Each target with what was measured."""
    found = []
    variants = list(dict.fromkeys(entry.get("variant") or "" for entry in rounds))
    for target in scene.targets:
        figure = next(figure for figure in scene.figures if figure.key == target.key)
        for variant in variants if target.variant is None else [target.variant]:
            if target.under:
                value = ratio(rounds, target.key, variant, target.over, target.under, figure.less)
            else:
                values = [row[target.over] for row in by_round(rounds, target.key, variant).values() if target.over in row]
                value = middle(values) if values else None
            if not value:
                continue
            reached = value["median"] <= target.limit if target.sense == "≤" else value["median"] >= target.limit
            found.append(dataclasses.asdict(target) | {
                "variant": variant, "figure": figure.title, "unit": None if target.under else figure.unit,
                "digits": 2 if target.under else figure.digits, **value, "reached": reached,
            })
    return found


def compared(scene, rounds):
    """cloudia's figure by everybody's, within each round."""
    found = []
    for variant in dict.fromkeys(entry.get("variant") or "" for entry in rounds):
        for figure in scene.figures:
            servers = dict.fromkeys(name for row in by_round(rounds, figure.key, variant).values() for name in row)
            for other in servers:
                if other != "cloudia" and (value := ratio(rounds, figure.key, variant, "cloudia", other)):
                    found.append({"variant": variant, "key": figure.key, "figure": figure.title, "under": other, "less": figure.less} | value)
    return found


def build():
    """What is measured, and what it is measured with."""
    say("cargo build --release --locked --bins --examples")
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--bins", "--examples"]
    if subprocess.run(command, cwd=ROOT).returncode:
        fail("the build fails")
    for path in ("cloudia", "examples/floor", "examples/crowd", "ticker"):
        if not (TARGET / "release" / path).is_file():
            fail(f"missing after the build: {shown(TARGET / 'release' / path)}")

