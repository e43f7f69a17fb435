"""Draws one recorded fault: the primary, the requests answered and refused in each second, and the response times."""

import itertools
import math

from lab.reports.timeline import AFTER, KEY, LEFT, ROW, WIDTH, Picture
from lab.trials.trial import BEFORE

WRITES, READS, FAILED, LEADS, SLOWEST = "#35855c", "#8fcf9f", "#c0392b", "#5b8db8", "#b08d57"
RATES, LATENCIES, LONGEST_MS = 120, 90, 45000
TEXTS = {"begins": "fault starts", "ends": "fault ends", "in sync": "all in sync"}


def draw(trial):
    """The picture of a trial."""
    rows = by_second(trial)
    picture = Picture(max(rows) + 1 - AFTER)
    leaders = intervals(trial["leaders"], max(rows) + 1)
    top = 54 + len(leaders) * ROW + 24
    middle = top + RATES
    bottom = middle + 40 + LATENCIES
    step = 5 if len(rows) < 100 else 30
    for second in range(0, max(rows) + 1, step):
        picture.line(picture.x(second), 40, picture.x(second), bottom)
        picture.text(picture.x(second), bottom + 16, f"{second} s", "middle")
    legend(picture)
    for row, (host, spans) in enumerate(leaders.items()):
        picture.text(LEFT - 10, 54 + row * ROW + 14, host, "end")
        for begin, end in spans:
            picture.bar(begin, end, 54 + row * ROW, LEADS)
    rates(picture, rows, top, middle)
    latencies(picture, rows, middle + 40, bottom)
    for y, (at, what) in zip((36, 48, 36), trial["events"], strict=False):
        picture.parts.append(f'<path d="M{picture.x(at):.1f} 30V{bottom}" stroke="{FAILED}" stroke-dasharray="4 3" fill="none"/>')
        picture.mark(picture.x(at), y, TEXTS[what])
    return picture.svg(bottom + 28)


def by_second(trial):
    """The counts of each second, including seconds without a response."""
    known = {row[0]: row[1:] for row in trial["seconds"]}
    return {second: known.get(second, [0, 0, 0, None, None]) for second in range(-BEFORE, max(known) + 1)}


def intervals(promotions, end):
    """When each host led: until another was promoted."""
    spans = {}
    for (begin, host), (until, _) in itertools.pairwise([*promotions, (end, None)]):
        spans.setdefault(host, []).append((begin, until))
    return spans


def legend(picture):
    texts = {"last promoted": LEADS, "writes": WRITES, "reads": READS, "failed": FAILED, "slowest response": SLOWEST}
    for place, (text, colour) in enumerate(texts.items()):
        x = LEFT + place * KEY
        picture.parts.append(f'<rect x="{x}" y="6" width="12" height="12" fill="{colour}"/>')
        picture.text(x + 17, 16, text)


def rates(picture, rows, top, bottom):
    """Requests per second, stacked: writes, reads, failed."""
    highest = max(1, *(sum(row[:3]) for row in rows.values()))
    for second, row in rows.items():
        base = 0
        for count, colour in zip(row, (WRITES, READS, FAILED), strict=False):
            if count:
                y, height = bottom - (base + count) / highest * RATES, count / highest * RATES
                width = picture.x(second + 1) - picture.x(second)
                # A few failed requests must be visible too.
                height = max(height, 2) if colour == FAILED else height
                picture.parts.append(f'<rect x="{picture.x(second):.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')
            base += count
    picture.text(LEFT - 10, top + 10, f"{highest} /s", "end")
    picture.text(LEFT - 10, bottom, "0", "end")


def latencies(picture, rows, top, bottom):
    """The slowest and the median response of each second, on a logarithmic scale."""

    def y(milliseconds):
        share = math.log10(max(1, milliseconds)) / math.log10(LONGEST_MS)
        return bottom - min(1, share) * (bottom - top)

    for milliseconds, text in ((1, "1 ms"), (100, "0.1 s"), (1000, "1 s"), (10000, "10 s")):
        picture.line(LEFT, y(milliseconds), WIDTH - 20, y(milliseconds))
        picture.text(LEFT - 10, y(milliseconds) + 4, text, "end")
    for column, colour in ((4, SLOWEST), (3, WRITES)):
        for second, row in rows.items():
            if row[column] is not None:
                picture.parts.append(f'<circle cx="{picture.x(second + 0.5):.1f}" cy="{y(row[column]):.1f}" r="2.2" fill="{colour}"/>')
    picture.text(LEFT, top - 8, "Response time of each second: slowest (brown), median (green)")
