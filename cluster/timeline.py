"""Draws a roll-out from what './dev cluster roll-out --record FILE' wrote: who was when in which state, and who answered.

Usage: timeline.py FILE [ROUND] >PICTURE.svg; without a number, the last round.
"""

import collections
import json
import sys

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
SHADES = ("#4c9f70", "#2f6f4e", "#8fcf9f", "#b9e3c0")
WIDTH, LEFT, ROW, CHART = 900, 90, 26, 160
BEFORE, AFTER = 5, 5


class Picture:
    """An SVG that grows; x is seconds from the begin of the round."""

    def __init__(self, seconds):
        self.seconds, self.parts = seconds + BEFORE + AFTER, []

    def x(self, second):
        return LEFT + (second + BEFORE) / self.seconds * (WIDTH - LEFT - 20)

    def bar(self, begin, end, y, colour):
        self.parts.append(f'<rect x="{self.x(begin):.1f}" y="{y}" width="{self.x(end) - self.x(begin):.1f}" height="{ROW - 6}" fill="{colour}"/>')

    def text(self, x, y, text, anchor="start"):
        self.parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{text}</text>')

    def line(self, x1, y1, x2, y2):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>')

    def area(self, upper, lower, colour):
        points = " ".join(f"{self.x(at):.1f},{y:.1f}" for at, y in [*upper, *reversed(lower)])
        self.parts.append(f'<polygon points="{points}" fill="{colour}"/>')

    def svg(self, height):
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#222">'
        return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>', *self.parts, "</svg>"])


def states(round, end):
    """The intervals of each host, in the order in which the hosts went: old ones first."""
    events = collections.defaultdict(list)
    for at, host, what in round["events"]:
        events[host].append((at - round["begun"], what))
    intervals = {}
    for host in sorted(events, key=lambda host: (events[host][0][1] == "launched", host)):
        # Old ones serve from before, new ones after the end.
        known = events[host] if events[host][0][1] == "launched" else [(-BEFORE, "healthy"), *events[host]]
        ends = [at for at, _ in known[1:]] + [end]
        intervals[host] = [(begin, until, *STATES[what]) for (begin, what), until in zip(known, ends)]
    return intervals


def rates(samples, begun, seconds):
    """Answers a second of each host, by the balancer's counters."""
    kept = [(at - begun, counts) for at, counts in samples if -BEFORE <= at - begun <= seconds + AFTER]
    for (before, old), (at, new) in zip(kept, kept[1:]):
        yield at, {host: (count - old.get(host, 0)) / (at - before) for host, count in new.items() if host not in ("FRONTEND", "BACKEND")}


def draw(record, number):
    round = record["rounds"][number]
    seconds = round["took"]
    picture = Picture(seconds)
    hosts = states(round, seconds + AFTER)
    top = 34 + len(hosts) * ROW + 20
    bottom = top + CHART
    for second in range(0, int(seconds + AFTER) + 1, 5):
        picture.line(picture.x(second), 30, picture.x(second), bottom)
        picture.text(picture.x(second), bottom + 16, f"{second} s", "middle")
    x = LEFT
    for name, colour in [state for state in STATES.values() if state[0]]:
        picture.parts.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{colour}"/>')
        picture.text(x + 17, 18, name)
        x += 110
    for row, (host, intervals) in enumerate(hosts.items()):
        y = 34 + row * ROW
        picture.text(LEFT - 10, y + 14, host, "end")
        for begin, end, state, colour in intervals:
            if state:
                picture.bar(begin, end, y, colour)
    measured = list(rates(record["samples"], round["begun"], seconds))
    highest = max(sum(by_host.values()) for _, by_host in measured)

    def y(rate):
        return bottom - rate / highest * CHART

    base = [(at, 0) for at, _ in measured]
    for host, shade in zip(hosts, SHADES):
        upper = [(at, rate + by_host.get(host, 0)) for (at, rate), (_, by_host) in zip(base, measured)]
        picture.area([(at, y(rate)) for at, rate in upper], [(at, y(rate)) for at, rate in base], shade)
        base = upper
    picture.text(LEFT - 10, top + 10, f"{highest:.0f} /s", "end")
    picture.text(LEFT - 10, bottom, "0", "end")
    said = f"{round['answered']} requests, {len(round['failures'])} failed, the slowest after {round['slowest']:.0f} ms; answers a second by host, above"
    picture.text(LEFT, bottom + 36, said)
    return picture.svg(bottom + 48)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        print(draw(json.load(file), int(sys.argv[2]) - 1 if len(sys.argv) > 2 else -1))
