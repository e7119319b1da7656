"""A trend for developers: cloudia as it is beside cloudia as of another commit, and what has moved beyond the noise."""

import json
import math
import subprocess
import tempfile
from pathlib import Path
from statistics import median

import connections
import load
from common import ROOT, fail, output_of, say, shown
from turns import Run

SCENES = ("poll", "revalidate", "pipeline", "churn", "idle")
# What nobody should lose sleep over, however steady it is: another layout of the same code moves as much.
TIE = 0.01
CONFIDENCE = 0.95


class Trend(Run):
    """Two cloudias, and nobody else; the second program goes by the name of `before`."""

    def __init__(self, args, stable, work, before):
        super().__init__(args, stable, work)
        self.rounds = self.long_rounds = args.pairs
        self.quick, self.seconds, self.settle, self.idlers = False, 1, 0.3, 4000
        self.before = before

    def contenders(self, site, path, check, *_, **__):
        return [self.stable.cloudia(site, path, check), self.stable.cloudia(site, path, check, name="before", program=self.before)]


def compare(args, stable, facts):
    name = output_of(["git", "-C", ROOT, "rev-parse", "--short=9", args.against + "^{commit}"])
    if not name:
        fail(f"no such commit: {args.against}")
    before = build(args.against, name)
    found = []
    scenes = {scene.name: scene for scene in [*load.SCENES, *connections.SCENES]}
    wanted = [scene for scene in SCENES if scene in args.scenes]
    for number, scene in enumerate(wanted, 1):
        say(f"{number} of {len(wanted)}: {scene}, {args.pairs} pairs, about a minute")
        with tempfile.TemporaryDirectory(prefix="cloudia-trend-") as work:
            stable.work = Path(work)
            Path(work).chmod(0o755)
            run = Trend(args, stable, Path(work), before)
            run.begin(scenes[scene])
            found += moved(scenes[scene].run(run)[1], scenes[scene])
    print("\n".join(table(found, name)))
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / "trend.json"
    path.write_text(json.dumps(facts | {"against": name, "pairs": args.pairs, "figures": found}, indent=1) + "\n")
    print(f"\nwrote {shown(path)}")


def build(rev, name):
    """In a work tree of its own, which stays, with what was built: the next comparison is quicker."""
    place = ROOT / "target/against"
    tree, target = place / name, place / "build"
    program = place / f"cloudia-{name}"
    if program.exists():
        return program
    if not tree.exists():
        place.mkdir(parents=True, exist_ok=True)
        git("worktree", "prune")
        git("worktree", "add", "--detach", "--quiet", tree, rev)
    say(f"building {name} in {shown(tree)}")
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--bin", "cloudia", "--target-dir", target]
    try:
        if subprocess.run(command, cwd=tree).returncode:
            fail(f"{rev} does not build")
        program.write_bytes((target / "release/cloudia").read_bytes())
        program.chmod(0o755)
    finally:
        git("worktree", "remove", "--force", tree)
    return program


def git(*words):
    if subprocess.run(["git", "-C", ROOT, *map(str, words)], stdout=subprocess.DEVNULL).returncode:
        fail(f"git {words[0]} {words[1]} fails")


def moved(rounds, scene):
    """The ratio of each figure, now by then, within each pair, and whether it is beyond the noise.

    The noise is that of the pairs themselves. The interval runs from one pair's ratio to another's, chosen by rank so that it
    holds the true median with 95 % confidence whatever the distribution is; something has moved if 1 is outside, and by more
    than a per cent.
    """
    figure, found = scene.figures[0], []
    for variant in dict.fromkeys(entry.get("variant") or "" for entry in rounds):
        rows = {}
        for entry in rounds:
            if (entry.get("variant") or "") == variant:
                rows.setdefault(entry["round"], {})[entry["server"]] = entry[figure.key]
        pairs = [(row["cloudia"], row["before"]) for row in rows.values() if len(row) == 2]
        ratios = sorted(now / before for now, before in pairs)
        low, high = interval(ratios)
        middle = median(ratios)
        far = (low > 1 or high < 1) and abs(middle - 1) > TIE
        better = (middle < 1) == figure.less
        found.append({
            "scene": scene.name, "variant": variant, "figure": figure.title, "unit": figure.unit, "digits": figure.digits,
            "before": median(before for _, before in pairs), "now": median(now for now, _ in pairs), "ratio": middle,
            "low": low, "high": high, "ratios": ratios, "moved": ("better" if better else "worse") if far else None,
        })
    return found


def interval(ordered):
    """By the sign test: the ranks that leave out at most so much of a fair coin's tosses on both sides."""
    count = len(ordered)
    left_out, tail = 0, 0.0
    while left_out < count // 2:
        tail += math.comb(count, left_out) / 2**count
        if 2 * tail > 1 - CONFIDENCE:
            break
        left_out += 1
    # So few pairs that not even all of them are enough: all of them.
    at = max(left_out - 1, 0)
    return ordered[at], ordered[-1 - at]


def table(found, name):
    lines = [f"| scene | | figure | {name} | now | now / then | 95 % | moved |", "|---|---|---|---:|---:|---:|---:|---|"]
    for row in found:
        before, now = (f"{row[key]:.{row['digits']}f}" for key in ("before", "now"))
        lines.append(
            f"| {row['scene']} | {row['variant']} | {row['figure']}, {row['unit']} | {before} | {now} | {row['ratio']:.3f} | "
            f"{row['low']:.3f}–{row['high']:.3f} | {row['moved'] or 'no'} |"
        )
    changes = [row for row in found if row["moved"]]
    return ["", *lines, "", f"{len(changes)} of {len(found)} figures moved beyond the noise."]
