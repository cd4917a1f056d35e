"""Plots as SVG, by hand: lines over a grid, each line named at its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["Chart", "Line", "plots"]

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 250, 74, 58
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444", "#7a5195")
_FONT = "font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\""


@dataclass(frozen=True)
class Line:
    """Points in data units. A lone point is drawn as a dot."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Scale:
    """From data to 0..1, and where the ticks are."""

    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]


def linear(lowest: float, highest: float) -> Scale:
    """Round ticks, some five of them."""
    span = (highest - lowest) or 1.0
    step = _round_up(span / 5)
    top = lowest + math.ceil(span / step - 1e-9) * step
    count = round((top - lowest) / step)
    ticks = [(lowest + each * step, f"{lowest + each * step:g}") for each in range(count + 1)]
    return Scale(lambda value: (value - lowest) / (top - lowest), ticks)


def logarithmic(lowest: float, highest: float) -> Scale:
    """Ticks at 1, 2 and 5 of each decade within."""
    first, last = math.log10(lowest), math.log10(highest)
    decades = range(math.floor(first), math.ceil(last) + 1)
    marks = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    ticks = [(mark, f"{mark:g}") for mark in marks if lowest * 0.999 <= mark <= highest * 1.001]
    return Scale(lambda value: (math.log10(max(value, lowest)) - first) / (last - first), ticks)


def nines(most: float = 0.999) -> Scale:
    """Of shares: each nine more takes the same room."""
    width = -math.log10(1 - most)
    ticks = [(share, f"{share * 100:g} %") for share in (0.0, 0.5, 0.9, 0.99, 0.999) if share <= most]
    return Scale(lambda share: -math.log10(1 - min(share, most)) / width, ticks)


def _round_up(step: float) -> float:
    size = 10 ** math.floor(math.log10(step))
    return next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= step * 0.999)


@dataclass(frozen=True)
class Chart:
    """``guides`` are levels with a name: what is asked for."""

    title: str
    subtitle: str
    x_label: str
    y_label: str
    x: Scale
    y: Scale
    lines: Sequence[Line]
    guides: Sequence[tuple[float, str]] = ()

    def svg(self) -> str:
        """The whole picture."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            f'role="img" aria-label="{escape(self.title)}" {_FONT}>',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            _text(LEFT, 30, self.title, 17, weight=600),
            _text(LEFT, 50, self.subtitle, 12.5, "#666666"),
            *self._grid(),
            *self._guides(),
            *self._lines(),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _at(self, x: float, y: float) -> tuple[float, float]:
        across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        up = min(max(self.y.place(y), 0.0), 1.0)
        return LEFT + min(max(self.x.place(x), 0.0), 1.0) * across, TOP + (1 - up) * down

    def _grid(self) -> Iterable[str]:
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        for value, name in self.y.ticks:
            _, y = self._at(0.0, value)
            yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#e6e6e6"/>'
            yield _text(LEFT - 8, y + 4, name, 12, "#555555", anchor="end")
        for value, name in self.x.ticks:
            x, _ = self._at(value, self.y.ticks[0][0])
            yield f'<path d="M{x:.1f} {bottom}v5" stroke="#999999"/>'
            yield _text(x, bottom + 20, name, 12, "#555555", anchor="middle")
        yield f'<path d="M{LEFT} {bottom}H{right}" stroke="#999999"/>'
        yield _text((LEFT + right) / 2, HEIGHT - 14, self.x_label, 12.5, "#333333", anchor="middle")
        middle = (TOP + bottom) / 2
        label = _text(0, 0, self.y_label, 12.5, "#333333", anchor="middle")
        yield f'<g transform="translate(20 {middle:.1f}) rotate(-90)">{label}</g>'

    def _guides(self) -> Iterable[str]:
        for level, name in self.guides:
            _, y = self._at(0.0, level)
            yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#b00020" stroke-dasharray="2 4"/>'
            yield _text(LEFT + 6, y - 5, name, 11, "#b00020")

    def _lines(self) -> Iterable[str]:
        ends = []
        for number, line in enumerate(self.lines):
            colour = COLOURS[number % len(COLOURS)]
            at = [self._at(*point) for point in line.points]
            dash = ' stroke-dasharray="6 4"' if line.dashed else ""
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
            if len(at) > 1:
                yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2.2"{dash}/>'
            if len(at) <= 8:
                yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.8" fill="{colour}"/>' for x, y in at)
            ends.append((at[-1][1], at[-1][0], line.name, colour))
        yield from _names(ends)


def _names(ends: list[tuple[float, float, str, str]]) -> Iterable[str]:
    """To the right of the lines' ends, moved apart, with a thread from the end."""
    x, gap = WIDTH - RIGHT + 24, 17.0
    wanted = sorted(ends)
    heights = [end[0] for end in wanted]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + gap)
    over = heights[-1] - (HEIGHT - BOTTOM) if heights else 0.0
    if over > 0:
        heights[-1] -= over
        for index in range(len(heights) - 2, -1, -1):
            heights[index] = min(heights[index], heights[index + 1] - gap)
    for height, (y, from_x, name, colour) in zip(heights, wanted, strict=True):
        yield (
            f'<path d="M{from_x + 5:.1f} {y:.1f}L{x - 4} {height:.1f}" stroke="{colour}" stroke-width="0.8" '
            'opacity="0.6" fill="none"/>'
        )
        yield _text(x, height + 4, name, 12, colour, weight=600)


def _text(
    x: float, y: float, text: str, size: float, colour: str = "#222222", *, anchor: str = "start", weight: int = 400
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


# --- the plots of a run ---


def plots(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what the run has the points for; the files written. ``report`` as it is in JSON."""
    machine, made = report["machine"], []
    place = f"{machine.get('cpu', '')}, the edge on one core, Python {machine.get('python', '')}"
    for name, chart in (
        ("cpu", _cpu(report["series"], place)),
        ("pacing", _pacing(report["series"], place)),
        ("latency", _latency(report["series"], place)),
        ("setup", _setup(report["series"], place)),
    ):
        if chart is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}.svg"
            path.write_text(chart.svg())
            made.append(path)
    return made


def _cpu(series: Mapping[str, Any], place: str) -> Chart | None:
    names = {"CPU a call": "the edge", "CPU a call, media.workers = 0": "the edge, media.workers = 0"}
    peers = {name: name.removeprefix("CPU a call, ") for name in series if name.startswith("CPU a call, ")}
    names = peers | names
    lines = [
        Line(text, sorted((float(x), float(y)) for x, y in series[name]), text == "C limit")
        for name, text in sorted(names.items(), key=lambda item: item[0])
        if name in series
    ]
    if not lines:
        return None
    values = [y for line in lines for _, y in line.points]
    calls = [x for line in lines for x, _ in line.points]
    lowest, highest = min(*values, 0.1) * 0.8, max(*values, 0.3) * 1.25
    return Chart(
        "What a bridged call costs",
        place,
        "calls at once",
        "% of a core a call (logarithmic)",
        linear(0.0, max(calls)),
        logarithmic(lowest, highest),
        lines,
        ((0.22, "asked for: 0.22 %"), (0.12, "aim: 0.12 %")),
    )


def _shares(lines: Mapping[str, Any], title: str, place: str, y_label: str, y: Scale | None = None) -> Chart | None:
    drawn = [
        Line(name, [(share, value) for share, value in points if share <= 0.999])
        for name, points in lines.items()
        if points
    ]
    if not drawn:
        return None
    highest = max(value for line in drawn for _, value in line.points)
    return Chart(title, place, "share of them all", y_label, nines(), y or linear(0.0, highest), drawn)


def _pacing(series: Mapping[str, Any], place: str) -> Chart | None:
    lines = {
        name.removeprefix("pacing, "): series[name]
        for name in series
        if name.startswith("pacing, ") and "workers" not in name and "limit" not in name
    }
    if "idle ticker" in series:
        lines["an idle ticker"] = series["idle ticker"]
    return _shares(lines, "How late packets leave, against the ideal grid of 20 ms", place, "ms late")


def _latency(series: Mapping[str, Any], place: str) -> Chart | None:
    lines = {name: series[name] for name in series if name.endswith((", added", ", in all"))}
    return _shares(lines, "What the edge adds to each way, at 100 calls", place, "ms")


def _setup(series: Mapping[str, Any], place: str) -> Chart | None:
    lines = {name: series[name] for name in series if name.startswith("INVITE → ")}
    return _shares(lines, "From INVITE to answer, 50 calls a second over 200 held", place, "ms")
