"""Plain horizontal bars as SVG, readable on light and dark pages."""

from collections.abc import Iterable
from html import escape

WIDTH, LABEL, ROW, TOP, VALUE = 760, 300, 30, 46, 110

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .value, .key { fill: #59636e; font-variant-numeric: tabular-nums; }
  .other { fill: #a8b3bf; } .ours { fill: #1a7f6b; } .database { fill: #d4973b; }
  .ground { fill: #ffffff; } .range { stroke: #1f2328; stroke-width: 1.5; }
  .us { font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .value, .key { fill: #9da7b3; }
    .ground { fill: #0f141a; } .other { fill: #56616d; } .ours { fill: #35b597; } .database { fill: #c98a2e; }
    .range { stroke: #e6edf3; }
  }
"""


def bars(title: str, values: dict[str, tuple[float, float, float]], titles: dict[str, str]) -> str:
    """Medians as bars, minimum to maximum as a line."""
    scale = (WIDTH - LABEL - VALUE) / max(high for _, _, high in values.values())

    def draw(name: str, y: int) -> Iterable[str]:
        low, middle, high = values[name]
        yield _bar(LABEL, y, middle * scale, "ours" if _is_ours(name) else "other")
        if high > low:
            yield (
                f'<path class="range" d="M{LABEL + low * scale:.1f} {y + 9}H{LABEL + high * scale:.1f}'
                f'M{LABEL + low * scale:.1f} {y + 6}v6M{LABEL + high * scale:.1f} {y + 6}v6"/>'
            )
        yield _value(LABEL + high * scale, y, _number(middle))

    return _plot(title, [name for name in titles if name in values], titles, draw)


def stacks(title: str, values: dict[str, tuple[float, float]], titles: dict[str, str]) -> str:
    """The program's share and PostgreSQL's, one after the other."""
    scale = (WIDTH - LABEL - VALUE) / max(map(sum, values.values()))

    def draw(name: str, y: int) -> Iterable[str]:
        own, database = values[name]
        yield _bar(LABEL, y, own * scale, "ours" if _is_ours(name) else "other")
        if database:
            yield _bar(LABEL + own * scale, y, database * scale, "database")
        yield _value(LABEL + (own + database) * scale, y, _number(own) + (f" + {_number(database)}" if database else ""))

    key = (
        f'<rect class="database" x="{WIDTH - 108}" y="15" width="11" height="11" rx="2"/><text class="key" x="{WIDTH - 92}" y="25">PostgreSQL</text>'
    )
    return _plot(title, [name for name in titles if name in values], titles, draw, key)


def _plot(title: str, names: list[str], titles: dict[str, str], draw, key: str = "") -> str:
    height = TOP + ROW * len(names) + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
        f'<text class="title" x="10" y="25">{escape(title)}</text>',
        key,
    ]
    for index, name in enumerate(names):
        y = TOP + ROW * index
        emphasis = ' class="us"' if _is_ours(name) else ""
        lines.append(f'<text{emphasis} x="{LABEL - 10}" y="{y + 14}" text-anchor="end">{escape(titles[name])}</text>')
        lines += draw(name, y)
    return "\n".join([*filter(None, lines), "</svg>", ""])


def _bar(x: float, y: int, width: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{max(width, 1):.1f}" height="18" rx="2"/>'


def _value(x: float, y: int, text: str) -> str:
    return f'<text class="value" x="{x + 8:.1f}" y="{y + 14}">{text}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _is_ours(name: str) -> bool:
    return name.startswith("dob-api")
