"""Draws a roll-out that './dev cluster roll-out --record FILE' recorded: the state of each host over time, and which hosts answered.

Usage: timeline.py FILE [ROUND] >PICTURE.svg; without a number, the last round.
"""

import collections
import itertools
import json
import sys

from lab.trials.trial import BEFORE

# What a host does after an event, and its colour.
STATES = {
    "launched": ("boots", "#c9c9c9"),
    "booted": ("installs", "#a3a3a3"),
    "installed": ("health checks", "#e8c547"),
    "healthy": ("serves", "#4c9f70"),
    "deregistered": ("drains", "#5b8db8"),
    "drained": ("shuts down", "#8d6a9f"),
    "stopped": (None, None),
}
OLD, NEW = "#2f6f4e", "#8fcf9f"
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #1c2733; } .ground { fill: #fff; } line { stroke: #d5dbe1; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .ground { fill: #0f141a; } line { stroke: #2c3640; } }
</style>"""
WIDTH, LEFT, ROW, CHART, KEY = 900, 90, 26, 160, 130
# An upper bound of the width of a letter at this size, in any of the fonts.
LETTER = 7.6
AFTER = 5


class Picture:
    """An SVG that grows; x is seconds since the start of the round."""

    def __init__(self, seconds):
        self.seconds, self.parts = seconds + BEFORE + AFTER, []

    def x(self, second):
        return LEFT + (second + BEFORE) / self.seconds * (WIDTH - LEFT - 20)

    def bar(self, begin, end, y, colour):
        self.parts.append(f'<rect x="{self.x(begin):.1f}" y="{y}" width="{self.x(end) - self.x(begin):.1f}" height="{ROW - 6}" fill="{colour}"/>')

    def text(self, x, y, text, anchor="start"):
        self.parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{text}</text>')

    def mark(self, x, y, text):
        """A text beside a vertical line: to its left where it would leave the frame on the right."""
        fits = x + 3 + LETTER * len(text) <= WIDTH
        self.text(x + 3 if fits else x - 3, y, text, "start" if fits else "end")

    def line(self, x1, y1, x2, y2):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def area(self, upper, lower, colour):
        points = " ".join(f"{self.x(at):.1f},{y:.1f}" for at, y in [*upper, *reversed(lower)])
        self.parts.append(f'<polygon points="{points}" fill="{colour}"/>')

    def svg(self, height):
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">'
        return "\n".join([head, STYLE, f'<rect class="ground" width="{WIDTH}" height="{height}"/>', *self.parts, "</svg>"])


def is_new(events):
    return events[0][1] == "launched"


def states(round, end):
    """The intervals of each host; old hosts first, as they serve already."""
    events = collections.defaultdict(list)
    for at, host, what in round["events"]:
        events[host].append((at - round["begun"], what))
    intervals = {}
    for host in sorted(events, key=lambda host: (is_new(events[host]), host)):
        known = events[host] if is_new(events[host]) else [(-BEFORE, "healthy"), *events[host]]
        ends = [at for at, _ in known[1:]] + [end]
        intervals[host] = [(begin, until, *STATES[what]) for (begin, what), until in zip(known, ends, strict=True)]
    return intervals


def rates(record, round):
    """Responses per second of old and of all hosts: counted by the clients, divided by the balancer's count per target."""
    shares = list(old_shares(record["samples"], {host for _, host, what in round["events"] if what == "launched"}))
    for second in record["seconds"]:
        at = second["at"] - round["begun"]
        # The last line is of an unfinished second.
        if -BEFORE <= at <= round["took"] + AFTER and second is not record["seconds"][-1]:
            share = min(shares, key=lambda share: abs(share[0] - second["at"]))[1]
            yield at, second["answered"] * share, second["answered"]


def old_shares(samples, new):
    """The share of responses from old hosts between two samples. A target that the balancer dropped in between is not counted."""
    for (_, before), (at, counts) in itertools.pairwise(samples):
        grown = {host: count - before.get(host, 0) for host, count in counts.items()}
        if total := sum(grown.values()):
            yield at, sum(count for host, count in grown.items() if host not in new) / total


def draw(record, number):
    round = record["rounds"][number]
    end = round["took"] + AFTER
    picture = Picture(round["took"])
    hosts = states(round, end)
    top = 34 + len(hosts) * ROW + 20
    bottom = top + CHART
    for second in range(0, int(end) + 1, 5):
        picture.line(picture.x(second), 30, picture.x(second), bottom)
        picture.text(picture.x(second), bottom + 16, f"{second} s", "middle")
    for place, (name, colour) in enumerate(state for state in STATES.values() if state[0]):
        x = LEFT + place * KEY
        picture.parts.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{colour}"/>')
        picture.text(x + 17, 18, name)
    for row, (host, intervals) in enumerate(hosts.items()):
        y = 34 + row * ROW
        picture.text(LEFT - 10, y + 14, host, "end")
        for begin, until, state, colour in intervals:
            if state:
                picture.bar(begin, until, y, colour)
    measured = list(rates(record, round))
    highest = max(total for *_, total in measured)

    def points(values):
        return [(at, bottom - value / highest * CHART) for (at, *_), value in zip(measured, values, strict=True)]

    old, total = points([old for _, old, _ in measured]), points([total for *_, total in measured])
    picture.area(old, points([0] * len(measured)), OLD)
    picture.area(total, old, NEW)
    picture.text(LEFT - 10, top + 10, f"{highest:.0f} /s", "end")
    picture.text(LEFT - 10, bottom, "0", "end")
    failed = f"{len(round['failures'])} failed, slowest {round['slowest']:.0f} ms"
    picture.text(LEFT, bottom + 36, f"Responses per second: dark from old hosts, light from new hosts. {round['answered']} requests, {failed}")
    return picture.svg(bottom + 48)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        print(draw(json.load(file), int(sys.argv[2]) - 1 if len(sys.argv) > 2 else -1))
