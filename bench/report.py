"""Results as text: docs/speed.md and what the terminal shows."""

from pathlib import Path

from bench import plots
from bench.contenders import TITLES
from bench.figures import Figure, cpu, measured, spread

DOCS = Path(__file__).parent.parent / "docs"
NOTES = Path(__file__).parent / "notes.md"


def number(value: float) -> str:
    """A number with three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def range_of(values: list[float], unit: str = "") -> str:
    low, middle, high = spread(values)
    text = f"{number(middle)} {unit}".strip()
    return text if len(values) == 1 else f"{text} ({number(low)} – {number(high)})"


def target(figure: Figure) -> str:
    return f"{'≥' if figure.at_least else '≤'} {figure.target:g}"


def table(run: dict) -> str:
    """Every figure with its target and its verdict."""
    lines = ["| figure | median (min – max) | target | |", "|---|---|---|---|"]
    for figure, values in measured(run["results"]):
        lines.append(f"| {figure.title} | {range_of(values, figure.unit)} | {target(figure)} | {figure.judge(values, run['noise'])} |")
    return "\n".join(lines)


def noise(run: dict) -> str:
    """Whether the machine was quiet."""
    found = run["noise"]
    text = (
        f"Others took {found['foreign']:.0%} of the processors in the median measurement and {found['worst']:.0%} "
        f"in the worst. Between rounds the same calculation took {found['usual']:.2f} × its best time in the median and "
        f"{found['drift']:.2f} × at worst."
    )
    if found["useless"]:
        return f"{text} **Too noisy: repeat the run on a quiet machine.**"
    return f"{text} {'Not quiet: only figures whose rounds agree are judged.' if found['noisy'] else 'Quiet enough.'}"


def rates(run: dict, part: str) -> str:
    """One part's contenders, with their throughput and cost."""
    lines = ["| | per second | p50 ms | p99 ms | CPU µs: program + PostgreSQL |", "|---|---|---|---|---|"]
    results = run["results"][part]
    for name in filter(results.__contains__, TITLES):
        rounds = results[name]
        own, database = (spread([one[key] for one in rounds])[1] for key in ("cpu_service", "cpu_database"))
        p50, p99 = ([one[key] / 1000 for one in rounds] for key in ("p50", "p99"))
        loaded = "– " if name == "pgbench" else f"{own:.1f}"
        late = "–" if name == "pgbench" else range_of(p99)
        lines.append(f"| {TITLES[name]} | {range_of([one['rate'] for one in rounds])} | {range_of(p50)} | {late} | {loaded} + {database:.1f} |")
    return "\n".join(lines)


def write(run: dict) -> None:
    """docs/speed.md and its plots."""
    results, about = run["results"], run["about"]
    medians = {part: {name: spread([one["rate"] for one in rounds]) for name, rounds in results[part].items()} for part in ("get", "put")}
    costs = {
        name: tuple(spread([one[key] for one in rounds])[1] for key in ("cpu_service", "cpu_database"))
        for name, rounds in results["get"].items()
        if name != "pgbench"
    }
    late = {name: spread([one["p99"] / 1000 for one in rounds]) for name, rounds in results["get"].items() if name != "pgbench"}
    (DOCS / "speed-get.svg").write_text(plots.bars("GET per second, 64 connections", medians["get"], TITLES))
    (DOCS / "speed-put.svg").write_text(plots.bars("PUT per second, 64 connections", medians["put"], TITLES))
    (DOCS / "speed-cpu.svg").write_text(plots.stacks("CPU time per GET, µs", costs, TITLES))
    (DOCS / "speed-p99.svg").write_text(plots.bars("p99 of GETs at saturation, ms", late, TITLES))
    small, large = (spread([cpu(one) for one in results["growth"][users]])[1] for users in ("10000", "10000000"))
    (DOCS / "speed.md").write_text(
        TEXT.format(
            table=table(run),
            noise=noise(run),
            get=rates(run, "get"),
            put=rates(run, "put"),
            mixed=rates(run, "mixed"),
            versions=" · ".join(about["versions"]),
            notes=NOTES.read_text().strip(),
            small=small,
            large=large,
            own=results["memory"]["idle, its own"][0],
            crowd=results["memory"]["10,000 connections"][0],
            **{key: value for key, value in about.items() if key != "versions"},
        )
    )


TEXT = """# Speed

Written by `{command}` on {date}, in {minutes} minutes: {rounds} rounds of {seconds} s a measurement, contenders in turns.
{machine}. {versions}.
{noise}

![GET per second](speed-get.svg)
![PUT per second](speed-put.svg)
![CPU time per GET](speed-cpu.svg)
![p99 of GETs](speed-p99.svg)

## Figures and targets

Ratios are taken round by round; the median counts. × is our figure divided by the peer's.

{table}

## What was measured

Load generator, program and PostgreSQL (fsync and synchronous commit on, one million users) share the machine. The
service is the static binary that ships, with its metrics on. pgbench sends the peers' statements prepared over TCP, the
best of 8, 16 and 64 clients with one and with two threads in each round. The peers are in `bench/peers`.

### GET, 64 connections

{get}

### PUT, 64 connections

{put}

### Nine GETs to a PUT, 256 connections

{mixed}

A GET costs {small:.1f} µs of CPU (service + PostgreSQL) at 10 thousand users and {large:.1f} µs at 10 million.

Of the idle memory {own:.1f} MB are the service's own; the rest is its binary in the kernel's cache, of which the kernel
maps more or less. With 10,000 connections open it is {crowd:.0f} MB.

{notes}
"""
