"""Writes docs/pairs.md from what './dev cluster faults --pairs --record FILE' wrote.

Usage: python3 -m lab.reports.pair_report FOLDER FILE...; FOLDER is docs, several files are added up.
"""

import json
import pathlib
import sys

HEAD = """# Faults in pairs

A second fault starts while the first, or the recovery from it, is under way. The pairs run on booted hosts of
[the cluster on one machine](../lab/README.md), under load from clients that record every request. After each pair the cluster must be
whole, and the trial checks these promises:

- Both regions together have one primary, and one epoch is the latest.
- Every member of both regions has the same rows at one WAL position of the primary.
- No acknowledged write is lost. If one region replaced the other, its last writes may not have been carried; the table counts them.

Requests may be refused meanwhile, because two hosts of three may be down.

- The **write gap** is the longest time without an acknowledgement; **plain** is that of psql with all hosts in its connection string,
  beside the service.
- **In sync** counts from the end of both faults.
- **Alerts** lists what fired from the first fault until all was in sync, with the page of each. Many alerts wait one or two minutes before
  they fire, so a short pair fires few.

[Single faults](faults.md) have their own page.

| no. | first | second | starts | hit | write gap, s | plain, s | writes | refused | reads refused | lost | not carried | in sync, s | alerts | kept |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""
TAIL = """
A program writes this page. These commands made it:

```sh
{commands}
python3 -m lab.reports.pair_report docs {files}
```

{runs}

`--numbers` with the seed repeats one pair. Machine: {cores} cores for all hosts. Versions: {versions}.
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
        # Older records do not have the plain client's gap.
        plain = f"{trial['bare_gap']:.1f}" if "bare_gap" in trial else "–"
        cells += [trial["victim"], f"{trial['gap']:.1f}", plain]
        cells += [f"{trial[count]:,}" for count in ("acknowledged", "writes_failed", "reads_failed")]
        cells += [str(trial["lost"]), str(trial["uncarried"]), "never" if trial["in_sync"] is None else f"{trial['in_sync']:.0f}"]
        cells.append(", ".join(f"{name} → [{page}](runbooks/{page}.md)" for name, page in sorted(trial["alerts"].items())) or "–")
    else:
        cells += ["–"] * 10
    return f"| {' | '.join([*cells, 'no' if trial['broken'] else 'yes'])} |\n"


def kept(trials):
    lines = [f"- number {trial['number']} of seed {trial['seed']}: {short(said)}\n" for trial in trials for said in trial["broken"]]
    said = f"\n**Promises kept** in {sum(not trial['broken'] for trial in trials)} of {len(trials)} pairs."
    return [f"{said} Broken:\n\n" if lines else f"{said}\n", *lines]


def notes(trials):
    lines = [f"- number {trial['number']}: {short(note)}\n" for trial in trials for note in trial.get("notes", [])]
    return ["\nOther observations:\n\n", *lines] if lines else []


def short(text):
    """The first line of a text, as an item of a list."""
    return text.splitlines()[0][:200].replace("<", "&lt;").replace("|", "\\|")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__.strip())
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
