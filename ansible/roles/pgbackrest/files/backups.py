"""What the programs for backups share: pgBackRest, Patroni, figures for Prometheus."""

import fcntl
import json
import pathlib
import ssl
import subprocess
import sys
import urllib.request

SETTINGS = json.loads(pathlib.Path("/etc/pgbackrest/backup.json").read_text())
STATE = pathlib.Path("/var/lib/pgbackrest")
LOCK = STATE / "dob-api.lock"
MISSING_STANZAS = (1, 3)


class Failed(Exception):
    """A sentence that says what went wrong."""


def pgbackrest(stanza, command, *options, repository=None):
    """What pgBackRest answers; what it reports besides goes to the journal."""
    which = [] if repository is None else [f"--repo={repository}"]
    words = ["pgbackrest", command, f"--stanza={stanza}", *which, *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line]
        raise Failed(f"pgbackrest {command} of stanza {stanza} failed: {said[-1] if said else f'exit {done.returncode}'}")
    return done.stdout


def repositories():
    return range(1, len(SETTINGS["stanzas"]) + 1)


def place(repository):
    """The region in which a repository stands."""
    return SETTINGS["stanzas"][repository - 1]


def info(stanza, repository):
    """What a repository holds of a stanza."""
    return json.loads(pgbackrest(stanza, "info", "--output=json", repository=repository))[0]


def archives(stanza, repository):
    """The WAL of a stanza in a repository: the folder of each PostgreSQL cluster, with the first and last file."""
    return info(stanza, repository).get("archive", [])


def catalogue(stanza, repository):
    """The status and the backups, oldest first, of a stanza in a repository: those that this host's PostgreSQL can run."""
    answer = info(stanza, repository)
    status = answer["repo"][0]["status"] if answer.get("repo") else answer["status"]
    if status["code"] not in (0, 2, *MISSING_STANZAS):
        raise Failed(f"the bucket of region {place(repository)} does not answer: {status['message']}")
    runnable = [one["id"] for one in answer.get("db", []) if one["version"] == SETTINGS["version"]]
    return status["code"], [backup for backup in answer["backup"] if backup["database"]["id"] in runnable]


def taken(backup):
    """When a backup ended, in seconds since the epoch."""
    return backup["timestamp"]["stop"]


def sound(backup):
    """Whether PostgreSQL's pages were whole when the backup copied them: pgBackRest keeps a backup with damaged pages, and marks it."""
    return not backup.get("error")


def dropped(repository):
    """When this host gave up WAL that waited for a bucket, in seconds since the epoch; 0 if it never did."""
    mark = STATE / f"dropped-{place(repository)}"
    return mark.stat().st_mtime if mark.exists() else 0


def members():
    """What Patroni lists of this region's members, by name; empty if it does not run."""
    context = ssl.create_default_context(cafile=SETTINGS["ca"])
    try:
        with urllib.request.urlopen("https://127.0.0.1:8008/cluster", timeout=5, context=context) as answer:
            return {member["name"]: member for member in json.load(answer)["members"]}
    except (OSError, ValueError):
        return {}


def role():
    """This host's part: leader (it takes writes), standby_leader, or what else Patroni calls it."""
    return members().get(SETTINGS["host"], {}).get("role", "none")


def figures(name, lines):
    """Replaces a file of figures as a whole; without lines there is none, so that one host alone tells."""
    file = pathlib.Path(SETTINGS["metrics"], f"{name}.prom")
    if not lines:
        file.unlink(missing_ok=True)
        return
    partial = file.with_suffix(".partial")
    partial.write_text("".join(f"{line}\n" for line in lines))
    partial.chmod(0o644)
    partial.rename(file)


def figures_of(name):
    """The figures that a file holds, by name."""
    file = pathlib.Path(SETTINGS["metrics"], f"{name}.prom")
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(line.split() for line in lines if not line.startswith("#"))


def alone():
    """Waits until no other program of this kind runs on this host; the lock goes with the process."""
    lock = LOCK.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def run(main):
    try:
        main()
    except Failed as failure:
        raise SystemExit(f"{pathlib.Path(sys.argv[0]).name}: {failure}") from None
