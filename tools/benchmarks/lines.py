"""Figures over time as a picture: panels one above the other that share their time."""

WIDTH, LEFT, RIGHT, TOP, PANEL, GAP = 760, 64, 16, 56, 70, 30
DARK, GREY, BLUE = "#1f2328", "#59636e", "#0969da"


def lines(title, note, seconds, panels, bands, marks):
    """`panels`: (name, [(second, value)]); `bands`: (from, to) of seconds that are shaded; `marks`: seconds with a line.

    It brings a light card of its own: an image is given no colours by the page around it, and so it reads the same on light and
    dark.
    """
    height = TOP + len(panels) * (PANEL + GAP) + 34
    across = lambda second: LEFT + (WIDTH - LEFT - RIGHT) * second / max(seconds, 1)
    bottom = TOP + len(panels) * (PANEL + GAP) - GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="{title}">',
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="#fff" stroke="#d0d7de"/>',
        f'<text x="16" y="28" font-size="16" font-weight="600" fill="{DARK}">{title}</text>',
    ]
    for begin, end in bands:
        parts.append(
            f'<rect x="{across(begin):.1f}" y="{TOP}" width="{across(end) - across(begin):.1f}" height="{bottom - TOP}" fill="#eaeef2"/>')
    for mark in marks:
        parts.append(f'<path d="M{across(mark):.1f} {TOP}V{bottom}" stroke="#bc4c00" stroke-dasharray="3 3"/>')
    for index, (name, series) in enumerate(panels):
        parts += panel(name, series, TOP + index * (PANEL + GAP), across)
    minutes = max(1, round(seconds / 60 / 10))
    for minute in range(0, int(seconds // 60) + 1, minutes):
        parts.append(f'<text x="{across(60 * minute):.1f}" y="{bottom + 16}" text-anchor="middle" fill="{GREY}">{minute} min</text>')
    parts.append(f'<text x="16" y="{height - 12}" fill="{GREY}">{note}</text>')
    return "\n".join([*parts, "</svg>"])


def panel(name, series, top, across):
    most = max((value for _, value in series), default=0) or 1
    up = lambda value: top + PANEL - PANEL * max(value, 0) / most
    path = " ".join(f"{across(second):.1f},{up(value):.1f}" for second, value in series)
    figure = f"{most:,.0f}" if most >= 10 else f"{most:.2f}"
    return [
        f'<text x="{LEFT}" y="{top - 5}" fill="{DARK}">{name}</text>',
        f'<path d="M{LEFT} {top}V{top + PANEL}H{WIDTH - RIGHT}" fill="none" stroke="#d0d7de"/>',
        f'<text x="{LEFT - 6}" y="{top + 9}" text-anchor="end" fill="{GREY}">{figure}</text>',
        f'<text x="{LEFT - 6}" y="{top + PANEL}" text-anchor="end" fill="{GREY}">0</text>',
        f'<polyline points="{path}" fill="none" stroke="{BLUE}" stroke-width="1.2" stroke-linejoin="round"/>',
    ]
