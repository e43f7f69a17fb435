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

Each fault happens on booted hosts of [the cluster on one machine](../lab/README.md), under load from clients that write and read
through the balancer and record every request and every acknowledgement. A host is the primary's where nothing else is said.
The write gap is the longest time without an acknowledgement; where it is counted from a command, that is said. Beside it stands that of
a plain client in the same fault: psql with all hosts in its connection string (`target_session_attrs=read-write`, `connect_timeout=2`,
`tcp_user_timeout=3000`), which connects again when it fails or hears nothing for 10 s. The time until all
is in sync is counted from the end of the fault, or from its start where it passes by itself. Writes are lost if they were
acknowledged and are not in the database afterwards. Times are those of a machine with {cores} cores that held all hosts.

| fault | rounds | write gap in s: min, median, max | of a plain client | aim, and how often met | reads failed | writes acknowledged \
| failed | lost | in sync after s: median, max |
|---|---|---|---|---|---|---|---|---|---|
"""
TAIL = """
This page and its pictures are written by a program; the records are of:

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
    # Pairs have a page of their own.
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
    times = [trial["in_step"] for trial in known if trial["in_step"] is not None]
    aim = "–"
    if fault["aim"]:
        since = f" from {fault['since']}" if fault["since"] else ""
        aim = f"≤ {fault['aim']}{since}: {sum(gap <= fault['aim'] for gap in gaps)} of {len(gaps)}"
    sums = [f"{sum(trial[count] for trial in known):,}" for count in ("reads_failed", "acknowledged", "writes_failed", "lost")]
    # Records from before there was one do not have it.
    bare = [trial["bare_gap"] for trial in known if "bare_gap" in trial]
    cells = [f"[{name}](#{name})", str(len(trials)), spread(gaps), spread(bare), aim, *sums, spread(times, (statistics.median, max))]
    return f"| {' | '.join(cells)} |\n"


def spread(values, of=(min, statistics.median, max)):
    return ", ".join(f"{measure(values):.1f}" for measure in of) if values else "–"


def broken(trials):
    """What did not come true, or that all did."""
    lines = [
        f"- {trial['fault']}, seed {trial['seed']}, number {trial['number']}: {said}\n" for trial in trials for said in map(short, trial["broken"])
    ]
    kept = f"\n**Promises kept** in {sum(not trial['broken'] for trial in trials)} of {len(trials)} faults."
    return [f"{kept} Broken:\n\n" if lines else f"{kept}\n", *lines]


def histories(trials):
    """What a checker said of what was read and written, where the load was on few users."""
    checked = [trial["history"] for trial in measured(trials) if trial.get("history")]
    if not checked:
        return []
    sums = {name: sum(history[name] for history in checked) for name in ("users", "operations", "unknown", "marked reads")}
    # Records from before some clients gave up do not have them.
    given_up = sum(history.get("given up", 0) for history in checked)
    wrong = sum(len(history["wrong"]) for history in checked)
    return [
        f"\n**Histories** of {sums['users']:,} users through {len(checked)} faults: {sums['operations']:,} operations checked, {wrong} histories not"
        f" linearizable. {sums['unknown']:,} writes had an unknown outcome, and {given_up:,} more because their client gave up;"
        f" {sums['marked reads']:,} reads said that they came from a replica and were left out.\n"
    ]


def short(text):
    """The first line of a reason, as text of a list."""
    return text.splitlines()[0][:200].replace("<", "&lt;").replace("|", "\\|")


def typical(trials):
    """The trial whose write gap is the median."""
    known = sorted(measured(trials), key=lambda trial: trial["gap"])
    return known[(len(known) - 1) // 2] if known else None


def chapter(name, fault, trials, shown):
    text = f"\n## {name}\n\n{fault['what'][0].upper()}{fault['what'][1:]}."
    uncarried = [trial["uncarried"] for trial in measured(trials)]
    if any(uncarried):
        unread = sum(trial["unread"] for trial in measured(trials))
        text += f" Acknowledged last and not carried to the other region: {spread(uncarried)} writes (min, median, max); they were"
        text += f" asked for {unread} times there, which counts as no failed read."
    fired = collections.Counter((name, page) for trial in measured(trials) for name, page in trial.get("alerts", {}).items())
    if fired:
        known = (f"{name} in {count}, to [{page}](runbooks/{page}.md)" for (name, page), count in sorted(fired.items()))
        text += f" Alerts that fired before all was in sync, in how many rounds, and the page each leads to: {', '.join(known)}."
    if shown:
        text += f" Number {shown['number']} of seed {shown['seed']}, the median:\n\n"
        text += f"![{name}: requests a second, latency, who leads](faults/{name}.svg)"
    return f"{text}\n"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__.strip())
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
