"""What is written of a run: a page, a picture and the raw data of each scene, and one page of all of them."""

import json

import pictures
from common import footer, shown, spread, write
from lifetimes import quotes_targets
from turns import compared, judged, summarize

VERDICT = {True: "yes", False: "**no**"}


def figures_of(scene, run, facts, servers, rounds):
    """What the scene's JSON holds."""
    targets, comparisons = judged(scene, rounds), compared(scene, rounds)
    return facts | {
        "scene": scene.name, "title": scene.title, "what": scene.what,
        "figures": [vars(figure) for figure in scene.figures],
        "summary": summarize(scene, rounds), "targets": targets, "ratios": comparisons,
        "skipped": run.skipped, "notes": run.notes,
        "versions": {server.name: server.version for server in servers} | {"wrk": facts["wrk"]},
        "commands": {server.name: server.shown_command() for server in servers},
        "configs": {server.template: server.config for server in servers if server.config},
        "heads": {server.name: getattr(server, "head", None) for server in servers},
        "rounds": rounds,
    }


def write_scene(folder, scene, result):
    how = f"rounds: {result['settings']['rounds']}, alternating; seconds of each: {result['settings']['seconds']}"
    page = [f"# {scene.title}", "", scene.what, "", f"![{scene.title}]({scene.name}.svg)", "", *tables(scene, result)]
    page += notes(result)
    page += footer(result, scene.name, f"`tools/bench {scene.name}`; {how}")
    main = scene.figures[:2] if not scene.peers else scene.figures[:1]
    main += [figure for figure in scene.figures if figure.key == "p99_us" and figure not in main]
    panels = []
    for variant, rows in result["summary"].items():
        for figure in main:
            named = [(server, row[figure.key]) for server, row in rows.items() if figure.key in row]
            if named:
                better = "less" if figure.less else "more"
                panels.append((f"{variant + ': ' if variant else ''}{figure.title}, {figure.unit} ({better} is better)", ordered(named), figure.digits))
    files = {
        "json": json.dumps(result, indent=1, ensure_ascii=False), "md": "\n".join(page),
        "svg": pictures.bars(scene.title, panels, f"median, line: min–max; {how}"),
    }
    write(folder, scene.name, files)
    print("\n" + "\n".join(tables(scene, result)) + f"\nwrote {shown(folder)}/{scene.name}.{{{','.join(files)}}}\n", flush=True)


def ordered(named):
    """cloudia first, the floor last; the others as they are."""
    place = {"cloudia": 0, "floor": 2}
    return sorted(named, key=lambda row: place.get(row[0], 1))


def tables(scene, result):
    lines = []
    for variant, rows in result["summary"].items():
        shown_figures = [f for f in scene.figures if any(f.key in row for row in rows.values())]
        heads = [f"{figure.title}, {figure.unit}" for figure in shown_figures]
        lines += [
            f"| {variant or 'server'} | " + " | ".join(f"{head} | min–max" for head in heads) + " |",
            "|---|" + "---:|---:|" * len(heads),
        ]
        for server, row in ordered(rows.items()):
            cells = [spread(row[f.key], f.digits) if f.key in row else " | " for f in shown_figures]
            lines.append(f"| {server} | " + " | ".join(cells) + " |")
        lines.append("")
    if result["targets"]:
        lines += ["| target | | limit | measured | min–max | reached |", "|---|---|---:|---:|---:|---|"]
        lines += [
            f"| {named(target)} | {target['variant']} | {target['sense']} {target['limit']:g} | {spread(target, target['digits'])} | {VERDICT[target['reached']]} |"
            for target in result["targets"]
        ]
        lines.append("")
    first = [entry for entry in result["ratios"] if entry["key"] == scene.figures[0].key or entry["key"] == "p99_us"]
    if first and scene.peers:
        lines += ["| within a round | | cloudia / | median | min–max |", "|---|---|---|---:|---:|"]
        lines += [f"| {entry['figure']} | {entry['variant']} | {entry['under']} | {spread(entry, 2)} |" for entry in first]
        lines.append("")
    return lines


def named(target):
    over = "" if target["over"] == "cloudia" else f", {target['over']}"
    return f"{target['figure']}{over}" if not target["under"] else f"{target['figure']}, {target['over']} / {target['under']}"


def notes(result):
    lines = [f"- {text}" for text in result["notes"]]
    lines += [f"- Without {server}: {why}" for server, why in result["skipped"].items()]
    return [*lines, ""] if lines else []


# All scenes


def read_all(folder, scenes):
    """What is there of each scene, from this run or another."""
    found = {}
    for scene in scenes:
        path = folder / f"{scene.name}.json"
        if path.exists():
            found[scene.name] = json.loads(path.read_text())
    return {name: result for name, result in found.items() if "targets" in result or name == "quotes"}


def write_overview(folder, scenes, peers):
    results = read_all(folder, scenes)
    lines = [
        "# The benchmark, all scenes", "",
        "![cloudia beside its peers](overview.svg)", "",
        "Each dot is a peer; the ring is the floor, the least that a server can do. To the right of 1×, cloudia needs so many times less of what the scene counts (CPU time, memory, latency), or does so many times more.", "",
        "| scene | | figure | target | measured | min–max | reached | commit |", "|---|---|---|---:|---:|---:|---|---|",
    ]
    for scene in scenes:
        if scene.name not in results:
            continue
        result = results[scene.name]
        for target in quotes_targets(folder) if scene.name == "quotes" else result["targets"]:
            unit = f" {target['unit']}" if target.get("unit") else ""
            lines.append(
                f"| [{scene.name}]({scene.name}.md) | {target['variant']} | {named(target)}{unit and ',' + unit} | {target['sense']} {target['limit']:g} | "
                f"{spread(target, target['digits'])} | {VERDICT[target['reached']]} | {(result['commit'] or 'none')[:9]} |"
            )
    lines += ["", "Ratios are within a round; a difference of less than 3 % is a tie. Made by `tools/bench`; each page says where and with what."]
    if any(result["quick"] for result in results.values()):
        lines += ["", "**A quick run: these figures mean nothing.**"]
    (folder / "README.md").write_text("\n".join(lines) + "\n")
    if rows := compared_rows(scenes, results):
        versions = " · ".join(known_versions(results, peers)) + "; floor: a bare loop"
        remarks = ["right of 1×: cloudia takes so many times less, or does so many times more; medians of ratios within a round", versions]
        picture = pictures.dots("cloudia beside its peers", rows, [*peers, "floor"], remarks)
        (folder / "overview.svg").write_text(picture + "\n")
    print("\n".join(lines[7:]) + f"\n\nwrote {shown(folder)}/README.md and overview.svg", flush=True)


def compared_rows(scenes, results):
    """Of each scene with peers, its first figure, and latency where it has one: (label, {peer: times})."""
    rows = []
    for scene in scenes:
        if not scene.peers or scene.name not in results:
            continue
        found = {}
        for entry in results[scene.name]["ratios"]:
            if entry["key"] in (scene.figures[0].key, "p99_us"):
                tail = ", p99" if entry["key"] == "p99_us" else f", {entry['variant']}" if entry["variant"] else ""
                label = scene.name + tail.replace(" connections", "").replace("If-Modified-Since", "by date").replace("If-None-Match", "by ETag")
                found.setdefault(label, {})[entry["under"]] = 1 / entry["median"] if entry["less"] else entry["median"]
        rows += found.items()
    return rows


def known_versions(results, peers):
    found = {}
    for result in results.values():
        for name, version in result.get("versions", {}).items():
            if name in peers and version:
                number = next((word for word in version.replace("/", " ").split() if word[0].isdigit()), version)
                found[name] = f"{name} {number.partition('+')[0].partition('-')[0]}"
    return [found[name] for name in peers if name in found]
