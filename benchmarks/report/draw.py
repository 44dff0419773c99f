"""Drawing SVG: escaped elements, round ticks, a legend. Colours are classes, set by the page or by `standalone`."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

LIGHT = {
    "ink": "#1b1f24", "soft": "#57606a", "grid": "#d8dee4", "paper": "#ffffff", "s0": "#0b66c3", "s1": "#b5460f",
    "s2": "#0f7b53", "s3": "#8a3fb0", "s4": "#8a5d00", "s5": "#c2185b",
}  # fmt: skip
DARK = {
    "ink": "#e6edf3", "soft": "#9da7b3", "grid": "#39424d", "paper": "#14181d", "s0": "#6cb6ff", "s1": "#ff9d5c",
    "s2": "#5fd3a3", "s3": "#d3a0f5", "s4": "#e6c14d", "s5": "#ff8fb8",
}  # fmt: skip
SERIES = 6
FONT = "12px system-ui, 'DejaVu Sans', sans-serif"
CHARACTER = 6.2  # pixels, of the font above, on the safe side


def style(colours: dict[str, str] | None = None) -> str:
    """Return the rules for the classes; colours are CSS variables of the page unless they are given."""

    def of(name: str) -> str:
        return colours[name] if colours else f"var(--{name})"

    rules = [
        f"text{{font:{FONT};fill:{of('ink')}}}", f".soft{{fill:{of('soft')}}}",
        f".grid{{stroke:{of('grid')};fill:none}}", f".axis{{stroke:{of('soft')};fill:none}}",
        f".ink{{stroke:{of('ink')};stroke-width:2;fill:none}}",
        f".dash{{stroke:{of('ink')};stroke-dasharray:4 3;fill:none}}",
        f".halo{{paint-order:stroke;stroke:{of('paper')};stroke-width:3px;stroke-linejoin:round}}",
    ]  # fmt: skip
    for i in range(SERIES):
        rules.append(f".f{i}{{fill:{of(f's{i}')}}}")
        rules.append(f".l{i}{{stroke:{of(f's{i}')};fill:none;stroke-width:2}}")
    rules.append(".pale{fill-opacity:.45}.thin{stroke-width:1}.faint{stroke-opacity:.4}")
    rules.append(".dots{stroke-width:5;stroke-linecap:round}")
    return "".join(rules)


@dataclass
class Drawing:
    """Elements of a picture; all text is escaped."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def add(self, tag: str, title: str | None = None, /, **attributes: Any) -> None:
        """Add an element; ``class_`` is its class, `title` what a pointer shows."""
        inside = f"<title>{html.escape(title)}</title>" if title else ""
        self.parts.append(f"<{tag}{_attributes(attributes)}" + (f">{inside}</{tag}>" if inside else "/>"))

    def text(self, x: float, y: float, words: str, **attributes: Any) -> None:
        """Add text whose baseline begins, ends or is centred (text_anchor) at a point."""
        self.parts.append(f"<text{_attributes({'x': x, 'y': y, **attributes})}>{html.escape(words)}</text>")

    def svg(self, title: str) -> str:
        """Return the elements in an ``<svg>`` with an accessible name."""
        size = f"{_n(self.width)} {_n(self.height)}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{_n(self.width)}" '
            f'height="{_n(self.height)}" role="img" aria-label="{html.escape(title)}">{"".join(self.parts)}</svg>'
        )


def standalone(svg: str) -> str:
    """Return a picture as a file of its own, on white."""
    head, _, rest = svg.partition(">")
    return f'{head}><style>{style(LIGHT)}</style><rect width="100%" height="100%" fill="{LIGHT["paper"]}"/>{rest}\n'


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _attributes(values: dict[str, Any]) -> str:
    words = []
    for name, value in values.items():
        text = _n(value) if isinstance(value, (int, float)) else html.escape(str(value))
        words.append(f' {name.rstrip("_").replace("_", "-")}="{text}"')
    return "".join(words)


def line(points: Iterable[tuple[float, float]]) -> str:
    """Return the path through points."""
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def dots(points: Iterable[tuple[float, float]]) -> str:
    """Return one path that draws a dot at each point (with round line caps)."""
    return "".join(f"M{_n(x)} {_n(y)}h0" for x, y in points)


@dataclass(frozen=True)
class Scale:
    """From values to pixels, linear or logarithmic."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return where a value lies."""
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.begin + part * (self.end - self.begin)

    def ticks(self, most: int) -> list[float]:
        """Return at most about `most` round values within the scale."""
        if self.log:
            return _log_ticks(self.low, self.high, most)
        step = nice((self.high - self.low) / max(most, 1))
        first = math.ceil(self.low / step - 1e-9)
        return [step * k for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def nice(step: float) -> float:
    """Return the next larger of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for multiples in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**p for p in powers for m in multiples if low * 0.999 <= m * 10.0**p <= high * 1.001]
        if len(found) <= most:
            break
    if len(found) >= 3:
        return found[:: -(-len(found) // max(most, 2))]  # over many decades every second, third ... power
    step = nice((high - low) / max(most, 1))  # less than a decade's part: round steps
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_scale(values: Sequence[float], begin: float, end: float) -> Scale:
    """Return a logarithmic scale around positive values, with some room."""
    low, high = min(values), max(values)
    room = max((high / low) ** 0.04, 1.05)
    return Scale(low / room, high * room, begin, end, log=True)


def x_axis(
    drawing: Drawing, scale: Scale, top: float, bottom: float, words: Callable[[float], str], *, name: str = ""
) -> None:
    """Draw vertical grid lines with their values below, and what they are."""
    room = max(len(words(t)) for t in scale.ticks(5)) * CHARACTER + 14
    free = -room
    for tick in scale.ticks(max(2, int(abs(scale.end - scale.begin) / room))):
        x = scale(tick)
        drawing.add("path", class_="grid", d=f"M{_n(x)} {_n(top)}V{_n(bottom)}")
        if x >= free:  # on a logarithmic scale neighbours may be too close for words
            drawing.text(x, bottom + 15, words(tick), text_anchor="middle", class_="soft")
            free = x + len(words(tick)) * CHARACTER + 8
    if name:
        drawing.text((scale.begin + scale.end) / 2, bottom + 32, name, text_anchor="middle", class_="soft")


def y_axis(drawing: Drawing, scale: Scale, left: float, right: float, words: Callable[[float], str]) -> None:
    """Draw horizontal grid lines with their values to the left."""
    for tick in scale.ticks(max(2, int(abs(scale.end - scale.begin) / 36))):
        y = scale(tick)
        drawing.add("path", class_="grid", d=f"M{_n(left)} {_n(y)}H{_n(right)}")
        drawing.text(left - 6, y + 4, words(tick), text_anchor="end", class_="soft")


def legend(drawing: Drawing, names: Sequence[tuple[str, str]], x: float, y: float) -> float:
    """Draw squares of a class with names, in as many lines as they need; return the y below them."""
    at = x
    for class_, name in names:
        wide = 18 + len(name) * CHARACTER + 14
        if at > x and at + wide > drawing.width:
            at, y = x, y + 18
        drawing.add("rect", x=at, y=y - 9, width=11, height=11, class_=class_)
        drawing.text(at + 16, y, name)
        at += wide
    return y + 18
