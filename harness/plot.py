# SPDX-License-Identifier: GPL-2.0
"""Plots with logarithmic axes, as SVG."""

import dataclasses
import math
from xml.sax.saxutils import escape

PANEL = 330, 380
LEFT, TOP, GAP, BOTTOM = 96, 62, 22, 58
LEGEND = 22
# Of the legend.
COLUMNS = 3


@dataclasses.dataclass(frozen=True)
class Line:
    """A series of points (x, y). dashes is SVG's stroke-dasharray."""

    name: str
    points: list[tuple[float, float]]
    colour: str
    dashes: str = ""
    width: float = 1.5


@dataclasses.dataclass(frozen=True)
class Panel:
    """One plot. ticks are {x: text}."""

    title: str
    xlabel: str
    ticks: dict[float, str]
    lines: list[Line]


class Axis:
    """A logarithmic axis: maps numbers from low to high to coordinates."""

    def __init__(self, low, high, start, end):
        self._low = math.log(low)
        self._scale = (end - start) / ((math.log(high) - self._low) or 1)
        self._start = start

    def __call__(self, value):
        return self._start + (math.log(value) - self._low) * self._scale


def decades(values):
    """The powers of ten that enclose all values."""
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values)))
    return [10 ** n for n in range(low, max(high, low + 1) + 1)]


def _text(x, y, text, **attributes):
    words = " ".join(f'{name.replace("_", "-")}="{value}"'
                     for name, value in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" {words}>{escape(text)}</text>'


def _stroke(points, colour, width, dashes=""):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (f'<polyline points="{path}" fill="none" stroke="{colour}" '
            f'stroke-width="{width}"{dashed}/>')


def _panel(panel, left, y, tens):
    width, height = PANEL
    # With a margin, so that no point is on the frame.
    x = Axis(min(panel.ticks), max(panel.ticks), left + 10, left + width - 10)
    for ten in tens:
        for digit in range(1, 10):
            if ten * digit > tens[-1]:
                break
            level = y(ten * digit)
            yield _stroke([(left, level), (left + width, level)],
                          "#bbb" if digit == 1 else "#eee", 0.7)
    for value, text in panel.ticks.items():
        yield _stroke([(x(value), TOP), (x(value), TOP + height)], "#eee", 0.7)
        if text:
            yield _text(x(value), TOP + height + 16, text,
                        text_anchor="middle", font_size=11)
    yield (f'<rect x="{left}" y="{TOP}" width="{width}" height="{height}" '
           'fill="none" stroke="#666"/>')
    yield _text(left + width / 2, TOP - 10, panel.title, text_anchor="middle",
                font_size=13)
    yield _text(left + width / 2, TOP + height + 36, panel.xlabel,
                text_anchor="middle", font_size=12)
    for line in panel.lines:
        points = [(x(position), y(value)) for position, value in line.points]
        yield _stroke(points, line.colour, line.width, line.dashes)
        for point in points:
            yield (f'<circle cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="2" '
                   f'fill="{line.colour}"/>')


def _legend(lines, top, width):
    column_width = (width - LEFT) / COLUMNS
    for number, line in enumerate(lines):
        x = LEFT + number % COLUMNS * column_width
        y = top + number // COLUMNS * LEGEND
        yield _stroke([(x, y), (x + 34, y)], line.colour, line.width,
                      line.dashes)
        yield _text(x + 42, y + 4, line.name, font_size=12)


def svg(title, ylabel, panels):
    """Panels side by side, with one vertical axis and one legend."""
    legend = {line.name: line for panel in panels for line in panel.lines}
    width = LEFT + len(panels) * (PANEL[0] + GAP)
    bottom = TOP + PANEL[1]
    height = bottom + BOTTOM + -(-len(legend) // COLUMNS) * LEGEND
    tens = decades([value for panel in panels for line in panel.lines
                    for _, value in line.points])
    y = Axis(tens[0], tens[-1], bottom, TOP)
    parts = [
        '<!-- SPDX-License-Identifier: GPL-2.0 -->',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{height}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(width / 2, 24, title, text_anchor="middle", font_size=16),
        f'<g transform="translate(18 {TOP + PANEL[1] / 2:.0f}) rotate(-90)">'
        + _text(0, 0, ylabel, text_anchor="middle", font_size=12) + "</g>"]
    parts += [_text(LEFT - 8, y(ten) + 4, f"{ten:,}", text_anchor="end",
                    font_size=11) for ten in tens]
    for number, panel in enumerate(panels):
        parts += _panel(panel, LEFT + number * (PANEL[0] + GAP), y, tens)
    parts += _legend(legend.values(), bottom + BOTTOM, width)
    return "\n".join([*parts, "</svg>", ""])
