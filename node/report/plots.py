"""Plots as inline SVG: no script, no font, no colour of their own (the page's style sheet has those)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from node.report.axes import Scale, number, scale

WIDTH = 640
FULL_WIDTH = 1000
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 46
ROW = 34
LABEL = 168
LABEL_LETTERS = 22


@dataclass(frozen=True)
class Point:
    """A point with its 95 % interval; without one (`low` None) it is drawn as a hollow mark."""

    x: float
    y: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Series:
    """A named line."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Bar:
    """A labelled horizontal bar, with an optional standard error and emphasis ("own", "plain" or "good")."""

    label: str
    value: float
    error: float = 0.0
    look: str = "plain"
    text: str = ""


@dataclass(frozen=True)
class Mark:
    """Something that happened at `x` in the lane of that index; `look` is a CSS class."""

    x: float
    lane: int
    look: str
    text: str


def intervals(title: str, points: Sequence[Point], *, x_label: str, y_label: str) -> Markup:
    """Points with interval bars over a shared grid."""
    height = 420
    values = [edge for point in points for edge in (point.low, point.high, point.y) if edge is not None]
    x = scale(min(p.x for p in points) - 0.5, max(p.x for p in points) + 0.5, LEFT, WIDTH - RIGHT)
    highest = max([1.0, *values])
    lowest = min([0.0, *values])
    # An interval that dips just below zero is not worth a whole step of the axis.
    y = scale(lowest if lowest < -highest / 20 else 0.0, highest, height - BOTTOM, TOP)
    marks = [_frame(x, y, height, x_label, y_label)]
    sure = [(point.x, point.y) for point in points if point.low is not None]
    marks.append(_line(x, y, sure, "s0 thin"))
    for point in points:
        px, py = x.at(point.x), y.at(point.y)
        if point.low is None or point.high is None:
            marks.append(_tag("circle", cx=px, cy=y.at(y.low) - 6, r=4, **{"class": "hollow"}))
            continue
        low, high = y.at(point.low), y.at(point.high)
        marks.append(_tag("path", d=f"M{px} {low}V{high}M{px - 4} {low}h8M{px - 4} {high}h8", **{"class": "error"}))
        marks.append(_tag("circle", cx=px, cy=py, r=3.5, **{"class": "dot"}))
    return _svg(title, height, marks)


def lines(title: str, series: Sequence[Series], *, x_label: str, y_label: str) -> Markup:
    """Named lines over a shared grid, each named at its end."""
    height = 380
    everything = [point for line in series for point in line.points]
    x = scale(min(p[0] for p in everything), max(p[0] for p in everything), LEFT, WIDTH - RIGHT)
    y = scale(0.0, max(p[1] for p in everything), height - BOTTOM, TOP)
    marks = [_frame(x, y, height, x_label, y_label)]
    for index, line in enumerate(series):
        marks.append(_line(x, y, line.points, f"s{index}"))
        marks += [_tag("circle", cx=x.at(a), cy=y.at(b), r=2.5, **{"class": f"f{index}"}) for a, b in line.points]
        top = TOP + 14 + 18 * index
        marks.append(_tag("path", d=f"M{WIDTH - 210} {top - 4}h22", **{"class": f"s{index}"}))
        marks.append(_text(WIDTH - 182, top, line.name))
    return _svg(title, height, marks)


def bars(title: str, rows: Sequence[Bar], *, x_label: str) -> Markup:
    """Horizontal bars from zero, each with its value and, where given, a bar of one standard error either side."""
    height = TOP + ROW * len(rows) + BOTTOM
    low = min([0.0, *(row.value - row.error for row in rows)])
    high = max([0.0, *(row.value + row.error for row in rows)])
    x = scale(low, high, LABEL, WIDTH - 76)
    marks = [_vertical_grid(x, height), _text((LABEL + WIDTH) / 2, height - 6, x_label, "label middle")]
    for index, row in enumerate(rows):
        middle = TOP + ROW * index + ROW / 2
        zero, end = x.at(0), x.at(row.value)
        marks.append(_text(LABEL - 10, middle + 4, _cut(row.label), "end"))
        marks.append(
            _tag(
                "rect",
                x=min(zero, end),
                y=middle - 9,
                width=max(abs(end - zero), 1),
                height=18,
                rx=2,
                **{"class": f"bar {row.look}"},
            )
        )
        reach = end
        if row.error:
            left, right = x.at(row.value - row.error), x.at(row.value + row.error)
            marks.append(
                _tag(
                    "path",
                    d=f"M{left} {middle}H{right}M{left} {middle - 4}v8M{right} {middle - 4}v8",
                    **{"class": "error"},
                )
            )
            reach = right
        marks.append(_text(max(reach, zero) + 6, middle + 4, row.text or number(row.value), "value"))
    return _svg(title, height, marks)


def lanes(title: str, names: Sequence[str], marks: Sequence[Mark], *, x_label: str) -> Markup:
    """A timeline: one lane for each name, one mark for each event."""
    height = TOP + 30 * len(names) + BOTTOM
    x = scale(0, max(mark.x for mark in marks), LABEL, FULL_WIDTH - RIGHT)
    drawn = [_vertical_grid(x, height), _text((LABEL + FULL_WIDTH) / 2, height - 6, x_label, "label middle")]
    for index, name in enumerate(names):
        middle = TOP + 30 * index + 15
        drawn.append(_text(LABEL - 10, middle + 4, _cut(name), "end"))
        drawn.append(_tag("path", d=f"M{LABEL} {middle}H{FULL_WIDTH - RIGHT}", **{"class": "grid"}))
    for mark in marks:
        box = _tag(
            "rect", x=x.at(mark.x) - 2, y=TOP + 30 * mark.lane + 6, width=4, height=18, rx=1, **{"class": mark.look}
        )
        drawn.append(Markup("<g><title>{}</title>{}</g>").format(mark.text, box))
    return _svg(title, height, drawn, FULL_WIDTH)


def _svg(title: str, height: float, marks: Iterable[Markup], width: int = WIDTH) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" preserveAspectRatio="xMidYMid meet">{}</svg>'
    ).format(width, height, title, Markup("").join(marks))


def _frame(x: Scale, y: Scale, height: float, x_label: str, y_label: str) -> Markup:
    marks = [_vertical_grid(x, height)]
    for tick in y.ticks():
        marks.append(_tag("path", d=f"M{LEFT} {y.at(tick)}H{WIDTH - RIGHT}", **{"class": "grid"}))
        marks.append(_text(LEFT - 8, y.at(tick) + 4, number(tick), "tick end"))
    marks.append(_text((LEFT + WIDTH) / 2, height - 6, x_label, "label middle"))
    turn = f"translate(14 {(height - BOTTOM + TOP) / 2}) rotate(-90)"
    marks.append(Markup('<g transform="{}">{}</g>').format(turn, _text(0, 0, y_label, "label middle")))
    return Markup("").join(marks)


def _vertical_grid(x: Scale, height: float) -> Markup:
    marks = []
    for tick in x.ticks():
        marks.append(_tag("path", d=f"M{x.at(tick)} {TOP}V{height - BOTTOM}", **{"class": "grid"}))
        marks.append(_text(x.at(tick), height - BOTTOM + 18, number(tick), "tick middle"))
    return Markup("").join(marks)


def _line(x: Scale, y: Scale, points: Sequence[tuple[float, float]], look: str) -> Markup:
    path = "".join(f"{'L' if index else 'M'}{x.at(a)} {y.at(b)}" for index, (a, b) in enumerate(points))
    return _tag("path", d=path, **{"class": f"line {look}"})


def _text(x: float, y: float, text: str, look: str = "") -> Markup:
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(round(x, 2), round(y, 2), look, text)


def _cut(label: str) -> str:
    return label if len(label) <= LABEL_LETTERS else label[: LABEL_LETTERS - 1] + "…"


def _tag(tag: str, **attributes: object) -> Markup:
    inner = Markup("").join(Markup(' {}="{}"').format(key, value) for key, value in attributes.items())
    return Markup("<{}{}/>").format(tag, inner)
