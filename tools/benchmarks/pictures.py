"""Pictures: SVG that is its own light or dark card, as the reader's system asks, and so is readable on any page."""

import math

# Tested for contrast on both cards; cloudia has the accent.
STYLE = """<style>
  .card { fill: #ffffff; stroke: #d0d7de } .text { fill: #1f2328 } .grey { fill: #59636e } .grid { stroke: #d0d7de } .axis { stroke: #59636e }
  .ours { fill: #0969da } .other { fill: #9aa4af } .whisker { stroke: #1f2328 } .cut { stroke: #ffffff; fill: none } .bare { fill: none; stroke: #59636e; stroke-width: 2 }
  .c0 { fill: #1a7f37 } .c1 { fill: #9a6700 } .c2 { fill: #8250df } .c3 { fill: #cf222e } .c4 { fill: #0e7490 } .c5 { fill: #59636e }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #3d444d } .text { fill: #f0f6fc } .grey { fill: #9198a1 } .grid { stroke: #30363d } .axis { stroke: #9198a1 }
    .ours { fill: #4493f8 } .other { fill: #656c76 } .whisker { stroke: #f0f6fc } .cut { stroke: #0d1117 } .bare { stroke: #9198a1 }
    .c0 { fill: #3fb950 } .c1 { fill: #d29922 } .c2 { fill: #ab7df8 } .c3 { fill: #f85149 } .c4 { fill: #39c5cf } .c5 { fill: #9198a1 }
  }
</style>"""
WIDTH = 720


def card(title, height, parts):
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="14" role="img" aria-label="{escaped(title)}">',
        STYLE,
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        f'<text class="text" x="16" y="30" font-size="16" font-weight="600">{escaped(title)}</text>',
        *parts,
        "</svg>",
    ])


def escaped(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def words(x, y, text, kind="text", anchor="start", size=None):
    sized = f' font-size="{size}"' if size else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{sized}>{escaped(text)}</text>'


def bars(title, panels, note):
    """Panels of horizontal bars with min–max whiskers: (heading, [(name, figure)], digits). Each has a scale of its own.

    A bar that would leave the others no room is cut, and shows it.
    """
    left, width, row, y, parts = 110, WIDTH - 110 - 90, 28, 44, []
    for heading, rows, digits in panels:
        longest = sorted(figure["max"] for _, figure in rows)
        most = next((at for at, more in zip(longest, [*longest[1:], 0]) if at > 0 and more > 3 * at and len(rows) > 2), longest[-1]) or 1
        parts.append(words(16, y + 14, heading, "grey", size=13))
        y += 24
        for name, figure in rows:
            cut = figure["max"] > 1.001 * most
            value, low, high = (left + width * min(max(figure[key], 0) / most, 1) for key in ("median", "min", "max"))
            kind = "ours" if name == "cloudia" or "worker" in name else "other"
            parts += [
                words(left - 10, y + 15, name, anchor="end"),
                f'<rect class="{kind}" x="{left}" y="{y}" width="{value - left:.1f}" height="20" rx="2"/>',
                f'<path class="cut" d="M{value - 22:.1f} {y + 22}l8 -24m5 0l-8 24" stroke-width="3"/>' if cut
                else f'<path class="whisker" d="M{low:.1f} {y + 10}H{high:.1f}" stroke-width="2"/>',
                words(high + 8, y + 15, f"{figure['median']:.{digits}f}"),
            ]
            y += row
        y += 10
    parts.append(words(16, y + 12, note, "grey", size=12))
    return card(title, y + 26, parts)


def dots(title, rows, names, remarks):
    """How many times as well cloudia does as each peer: (label, {name: times}) on a scale of powers of two, up to `FAR`."""
    left, right, row, top = 196, WIDTH - 46, 32, 86
    values = [min(value, FAR) for _, row_values in rows for value in row_values.values()]
    first, last = math.floor(math.log2(min([0.5, *values])) + 1e-9), math.ceil(math.log2(max([2.0, *values])) - 1e-9)
    x = lambda value: left + (right - left) * (math.log2(min(value, FAR)) - first) / (last - first)
    bottom = top + row * len(rows)
    parts, at = [], 16.0
    for name in names:
        parts += [circle(kind_of(name, names), at + 5, 52, name), words(at + 16, 57, name, size=13)]
        at += 32 + 8 * len(name)
    for power in range(first, last + 1):
        value = 2.0**power
        kind, thick = ("axis", 2) if power == 0 else ("grid", 1)
        parts += [
            f'<path class="{kind}" d="M{x(value):.1f} {top - 8}V{bottom}" stroke-width="{thick}"/>',
            words(x(value), bottom + 18, f"{value:g}×", "grey", "middle", 12),
        ]
    for index, (label, row_values) in enumerate(rows):
        y = top + row * index + 8
        parts.append(words(left - 14, y + 5, label, anchor="end", size=13))
        shown = [name for name in names if name in row_values]
        for place, name in enumerate(shown):
            # Side by side where they are alike.
            beside, value = y + 3 * (place - (len(shown) - 1) / 2), row_values[name]
            parts.append(circle(kind_of(name, names), x(value), beside, f"{name}: {value:.2f}×"))
        if beyond := [value for value in row_values.values() if value > FAR]:
            more = "" if len(beyond) == 1 else "≥ "
            parts.append(words(x(FAR) + 8, y + 5, f"{more}{min(beyond):.0f}×", "grey", size=11))
    parts += [words(16, bottom + 42 + 18 * number, remark, "grey", size=12) for number, remark in enumerate(remarks)]
    return card(title, bottom + 38 + 18 * len(remarks), parts)


def kind_of(name, names):
    return "bare" if name == "floor" else f"c{names.index(name) % 6}"


def circle(kind, x, y, title):
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"><title>{escaped(title)}</title></circle>'


# What is further than that tells no more.
FAR = 32.0
