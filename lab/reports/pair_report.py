"""Writes docs/pairs.md from what './dev cluster faults --pairs --record FILE' wrote.

Usage: python3 -m lab.reports.pair_report FOLDER FILE...; FOLDER is docs, several files are added up.
"""

import json
import pathlib
import sys

HEAD = """# Faults in pairs

A second fault begins while the first, or the recovery from it, is under way, on booted hosts of
[the cluster on one machine](../lab/README.md) and under load from clients that record every request. Each pair ends with a whole cluster.
What is promised of each, and compared at its end:

- one primary in both regions together, and one epoch that is the latest;
- the same rows on every member of both regions, read where each has replayed the WAL up to one position of the primary's;
- every write that was acknowledged. Of a region that another one replaced, the last may not have been carried: they are counted.

Requests may be refused meanwhile: two hosts of three may be gone. The write gap is the longest time without an acknowledgement. "In sync"
counts from the end of both. Alerts are those that fired from the first fault on until all was in sync; many wait one or two minutes, to
be sure, so a short pair fires few. Each leads to the page beside it. [Single faults](faults.md) have a page of their own.

| no. | first | second | begins | hit | write gap, s | writes | refused | reads refused | lost | not carried | in sync, s | alerts | kept |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""
TAIL = """
This page is written by a program; the records are of:

```sh
{commands}
python3 -m lab.reports.pair_report docs {files}
```

{runs}

`--numbers` with the seed repeats one of them. Machine: {cores} cores for all hosts. Versions: {versions}.
"""


def main(folder, files):
    records = [json.loads(pathlib.Path(file).read_text()) for file in files]
    trials = [trial | {"seed": record["seed"]} for record in records for trial in record["trials"] if len(trial["names"]) > 1]
    parts = [HEAD, *map(row, trials), *kept(trials), *notes(trials)]
    parts.append(
        TAIL.format(
            commands="\n".join(record["command"] for record in records),
            files=" ".join(pathlib.Path(file).name for file in files),
            runs="\n".join(f"- {record['date']}, seed {record['seed']}: {len(record['trials'])} pairs" for record in records),
            cores=records[0]["cores"],
            versions=", ".join(f"{name} {version}" for name, version in records[-1]["versions"].items()),
        )
    )
    (folder / "pairs.md").write_text("".join(parts))


def row(trial):
    first, second, moment = trial["names"]
    cells = [str(trial["number"]), first, second, moment]
    if "gap" in trial:
        cells += [trial["victim"], f"{trial['gap']:.1f}", f"{trial['acknowledged']:,}", f"{trial['writes_failed']:,}", f"{trial['reads_failed']:,}"]
        cells += [str(trial["lost"]), str(trial["uncarried"]), "never" if trial["in_sync"] is None else f"{trial['in_sync']:.0f}"]
        cells.append(", ".join(f"{name} → [{page}](runbooks/{page}.md)" for name, page in sorted(trial["alerts"].items())) or "–")
    else:
        cells += ["–"] * 9
    return f"| {' | '.join([*cells, 'no' if trial['broken'] else 'yes'])} |\n"


def kept(trials):
    lines = [f"- number {trial['number']} of seed {trial['seed']}: {short(said)}\n" for trial in trials for said in trial["broken"]]
    said = f"\n**Promises kept** in {sum(not trial['broken'] for trial in trials)} of {len(trials)} pairs."
    return [f"{said} Broken:\n\n" if lines else f"{said}\n", *lines]


def notes(trials):
    lines = [f"- number {trial['number']}: {short(note)}\n" for trial in trials for note in trial.get("notes", [])]
    return ["\nWhat else was seen:\n\n", *lines] if lines else []


def short(text):
    """The first line of a text, as an item of a list."""
    return text.splitlines()[0][:200].replace("<", "&lt;").replace("|", "\\|")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__.strip())
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
