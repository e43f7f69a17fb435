"""Writes docs/faults.md and its pictures from what './dev cluster faults --record FILE' wrote.

Usage: fault_report.py FOLDER FILE...; FOLDER is docs, several files are added up.
"""

import collections
import json
import pathlib
import statistics
import sys

from lab.reports.fault_picture import draw

HEAD = """# Faults: what each costs

Each fault happens on booted hosts of [the cluster on one machine](../lab/README.md). Clients write and read through the balancer
and record every request and every acknowledgement. Unless stated otherwise, the host is the primary's. The write gap is the longest
time without an acknowledged write; the table says where it is counted from a command. Beside it stands the gap of a plain client in
the same fault: psql with all hosts in its connection string (`target_session_attrs=read-write`, `connect_timeout=2`,
`tcp_user_timeout=3000`), which connects again when it fails or hears nothing for 10 s. The time until all is in sync starts at the end
of the fault, or at its start if the fault ends by itself. A write is lost if it was acknowledged and is not in the database afterwards.
All hosts ran on one machine with {cores} cores.

| fault | rounds | write gap in s: min, median, max | of a plain client | target, and how often met | reads failed | writes acknowledged \
| failed | lost | in sync after s: median, max |
|---|---|---|---|---|---|---|---|---|---|
"""
TAIL = """
A program writes this page and its pictures from the records of:

```sh
{commands}
python3 -m lab.reports.fault_report docs {files}
```

{runs}

Versions: {versions}.
"""


def main(folder, files):
    records = [json.loads(pathlib.Path(file).read_text()) for file in files]
    table = records[-1]["faults"]
    # Pairs have their own page.
    trials = [trial | {"seed": record["seed"]} for record in records for trial in record["trials"] if trial["fault"] in table]
    by_fault = {name: mine for name in table if (mine := [trial for trial in trials if trial["fault"] == name])}
    pictures = folder / "faults"
    pictures.mkdir(exist_ok=True)
    parts = [HEAD.format(cores=records[0]["cores"])]
    parts += [row(name, table[name], mine) for name, mine in by_fault.items()]
    parts += broken(trials) + histories(trials)
    for name, mine in by_fault.items():
        if shown := typical(mine):
            (pictures / f"{name}.svg").write_text(draw(shown))
        parts.append(chapter(name, table[name], mine, shown))
    parts.append(
        TAIL.format(
            commands="\n".join(record["command"] for record in records),
            files=" ".join(pathlib.Path(file).name for file in files),
            runs="\n".join(f"- {record['date']}, seed {record['seed']}: {len(record['trials'])} faults" for record in records),
            versions=", ".join(f"{name} {version}" for name, version in records[-1]["versions"].items()),
        )
    )
    (folder / "faults.md").write_text("".join(parts))


def measured(trials):
    return [trial for trial in trials if "gap" in trial]


def row(name, fault, trials):
    known = measured(trials)
    gaps = [trial["gap"] for trial in known]
    times = [trial["in_sync"] for trial in known if trial["in_sync"] is not None]
    aim = "–"
    if fault["aim"]:
        since = f" from {fault['since']}" if fault["since"] else ""
        aim = f"≤ {fault['aim']}{since}: {sum(gap <= fault['aim'] for gap in gaps)} of {len(gaps)}"
    sums = [f"{sum(trial[count] for trial in known):,}" for count in ("reads_failed", "acknowledged", "writes_failed", "lost")]
    # Older records do not have it.
    bare = [trial["bare_gap"] for trial in known if "bare_gap" in trial]
    cells = [f"[{name}](#{name})", str(len(trials)), spread(gaps), spread(bare), aim, *sums, spread(times, (statistics.median, max))]
    return f"| {' | '.join(cells)} |\n"


def spread(values, of=(min, statistics.median, max)):
    return ", ".join(f"{measure(values):.1f}" for measure in of) if values else "–"


def broken(trials):
    """The broken promises, or that all were kept."""
    lines = [
        f"- {trial['fault']}, seed {trial['seed']}, number {trial['number']}: {said}\n" for trial in trials for said in map(short, trial["broken"])
    ]
    kept = f"\n**Promises kept** in {sum(not trial['broken'] for trial in trials)} of {len(trials)} faults."
    return [f"{kept} Broken:\n\n" if lines else f"{kept}\n", *lines]


def histories(trials):
    """The verdict of the checker on the recorded histories, for loads on few users."""
    checked = [trial["history"] for trial in measured(trials) if trial.get("history")]
    if not checked:
        return []
    sums = {name: sum(history[name] for history in checked) for name in ("users", "operations", "unknown", "marked reads")}
    # Older records do not have them.
    given_up = sum(history.get("given up", 0) for history in checked)
    wrong = sum(len(history["wrong"]) for history in checked)
    return [
        f"\n**Histories** of {sums['users']:,} users through {len(checked)} faults: {sums['operations']:,} operations checked, {wrong} histories not"
        f" linearizable. {sums['unknown']:,} writes had an unknown outcome, and {given_up:,} more because their client gave up;"
        f" {sums['marked reads']:,} reads were marked as served by a replica and left out.\n"
    ]


def short(text):
    """The first line of a reason, as text of a list."""
    return text.splitlines()[0][:200].replace("<", "&lt;").replace("|", "\\|")


def typical(trials):
    """The trial whose write gap is the median of those that kept their promises."""
    known = sorted((trial for trial in measured(trials) if not trial["broken"]), key=lambda trial: trial["gap"])
    return known[(len(known) - 1) // 2] if known else None


def chapter(name, fault, trials, shown):
    text = f"\n## {name}\n\n{fault['what'][0].upper()}{fault['what'][1:]}."
    uncarried = [trial["uncarried"] for trial in measured(trials)]
    if any(uncarried):
        unread = sum(trial["unread"] for trial in measured(trials))
        text += f" Last acknowledged writes that had not reached the other region: {spread(uncarried)} (min, median, max). Clients"
        text += f" read them there {unread} times, which does not count as a failed read."
    fired = collections.Counter((name, page) for trial in measured(trials) for name, page in trial.get("alerts", {}).items())
    if fired:
        known = (f"{name} in {count}, to [{page}](runbooks/{page}.md)" for (name, page), count in sorted(fired.items()))
        text += f" Alerts that fired before all was in sync, the number of rounds, and their pages: {', '.join(known)}."
    if shown:
        text += f" Number {shown['number']} of seed {shown['seed']}, the median:\n\n"
        text += f"![{name}: requests per second, latency, primary](faults/{name}.svg)"
    return f"{text}\n"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__.strip())
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
