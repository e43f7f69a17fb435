"""Which WAL is archived, which is left out, and how each bucket has its own queue, by the programs that PostgreSQL and Patroni call."""

import os
import shutil
import subprocess

import pytest

from tools import TOP

FILES = TOP / "ansible/roles/pgbackrest/files"
HISTORY = "1\t0/13007818\tno recovery target specified\n2\t0/15000000\tno recovery target specified\n"
SAVES = '#!/bin/sh\necho "$@"\n'
# A bucket that takes every file takes what pgBackRest is called with; a lost one takes nothing, unless it may be dropped.
PGBACKREST = """#!/bin/sh
set -eu
for word; do case $word in --config=*-*.conf) region=${word%.conf} region=${region##*-} ;; --archive-push-queue-max=0) drop=1 ;; esac; done
echo "$region ${word##*/}${drop:+ dropped}"
[ -z "${drop:-}" ] || for file in pg_wal/archive_status/*.ready; do mark=${file##*/}; touch "$OUT/${mark%.ready}.ok"; done
[ "$region" != lost ] || [ -n "${drop:-}" ] || exit 82
"""
FETCHES = '#!/bin/sh\n[ "$2" = {} ] && printf "1\\t0/13007818\\tno\\n" >"$3"\n'


@pytest.fixture
def push(tmp_path):
    """Pushes a file from a data directory, with these histories and ready files there; the bucket knows the history of timeline 2."""
    shutil.copy(FILES / "pgbackrest-push", tmp_path)
    for name, text in (("pgbackrest-queue", SAVES), ("archive-get", FETCHES.format("00000002.history"))):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    status = tmp_path / "pg_wal/archive_status"
    status.mkdir(parents=True)

    def run(path, histories=(), ready=()):
        for name in histories:
            (tmp_path / "pg_wal" / name).write_text(HISTORY)
        for name in ready:
            (status / f"{name}.ready").touch()
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run([tmp_path / "pgbackrest-push", "a b", path], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, sorted(done.stdout.splitlines()), sorted(file.name for file in status.iterdir())

    run.folder = tmp_path / "pg_wal"
    return run


def both(path, option=""):
    """What is asked of the queues of both buckets."""
    return [f"a {bucket} {path} {option}".strip() for bucket in "ab"]


@pytest.mark.parametrize(
    ("file", "saved"),
    [
        ("000000010000000000000012", True),
        # Of the file in which a fork lies, the old timeline's own goes beyond it.
        ("000000010000000000000013", False),
        ("000000020000000000000014", True),
        ("000000020000000000000015", False),
        ("000000020000000100000000", False),
        ("000000030000000000000015", True),
        ("00000003.history", True),
        ("000000010000000000000013.partial", True),
    ],
)
def test_what_goes_beyond_a_fork_is_left_out(push, file, saved):
    code, said, _ = push(f"pg_wal/{file}", histories=["00000003.history"])
    assert (code, said) == (0, both(f"pg_wal/{file}") if saved else [])


def test_a_former_primary_asks_the_bucket_where_the_next_timeline_began(push):
    whole, stray = "000000010000000000000012", "000000010000000000000013"
    # pgBackRest saves whatever is ready: what must not be is taken from it first.
    assert push(push.folder / whole, ready=[whole, stray]) == (0, both(push.folder / whole), [f"{whole}.ready", f"{stray}.done"])
    assert push(push.folder / stray)[:2] == (0, [])


def test_what_pgbackrest_takes_along_with_an_older_file_is_judged_by_the_bucket_too(push):
    get = FETCHES.format("00000004.history").replace("1\\t0", "3\\t0")
    push.folder.parent.joinpath("archive-get").write_text(get)
    older, stray = "000000010000000000000012", "000000030000000000000013"
    done = push(push.folder / older, histories=["00000003.history"], ready=[older, stray])
    assert done == (0, both(push.folder / older), [f"{older}.ready", f"{stray}.done"])


def test_an_older_file_is_saved_alone_while_the_next_timeline_is_unknown(push):
    older, newest = "000000010000000000000012", "000000030000000000000013"
    done = push(push.folder / older, histories=["00000003.history"], ready=[older, newest])
    assert done == (0, both(push.folder / older, "--no-archive-async"), [f"{older}.ready", f"{newest}.ready"])


def test_a_former_primary_saves_nothing_while_the_next_timeline_is_unknown(push):
    assert push(push.folder / "000000020000000000000012")[:2] == (1, [])


def test_a_primary_that_was_replaced_while_it_was_cut_off_saves_nothing_beyond_the_fork(push):
    assert push("pg_wal/000000010000000000000012")[:2] == (0, both("pg_wal/000000010000000000000012"))
    assert push("pg_wal/000000010000000000000013")[:2] == (0, [])


def test_a_primary_that_sees_no_bucket_saves_nothing(push):
    push.folder.parent.joinpath("archive-get").write_text("#!/bin/sh\nexit 200\n")
    assert push("pg_wal/000000020000000000000016")[:2] == (1, [])


def test_a_primary_that_sees_only_the_other_bucket_saves_everything(push):
    push.folder.parent.joinpath("archive-get").write_text('#!/bin/sh\n[ "$REPOSITORY" = 2 ] || exit 200\nexit 1\n')
    assert push("pg_wal/000000020000000000000016")[:2] == (0, both("pg_wal/000000020000000000000016"))


def test_a_primary_that_was_never_replaced_saves_everything(push):
    assert push("pg_wal/000000020000000000000016")[:2] == (0, both("pg_wal/000000020000000000000016"))


def test_a_file_that_one_bucket_does_not_take_is_not_done(push):
    push.folder.parent.joinpath("pgbackrest-queue").write_text('#!/bin/sh\n[ "$2" = b ] || exit 82\n')
    assert push("pg_wal/000000010000000000000012")[0] == 82


@pytest.fixture
def queue(tmp_path):
    """Archives a file in the bucket of a region, with these files ready, and these of them taken already; a queue holds two."""
    shutil.copy(FILES / "pgbackrest-queue", tmp_path)
    (tmp_path / "pgbackrest").write_text(PGBACKREST)
    (tmp_path / "pgbackrest").chmod(0o755)
    for folder in ("pg_wal/archive_status", "etc/pgbackrest", "var/lib/pgbackrest", "var/lib/prometheus/node-exporter"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/pgbackrest/queue-limit").write_text("2\n")

    def run(region, file, ready=(), taken=(), option=()):
        out = tmp_path / f"var/spool/pgbackrest/{region}/archive/a/out"
        out.mkdir(parents=True, exist_ok=True)
        for name in ready:
            (tmp_path / f"pg_wal/archive_status/{name}.ready").touch()
        for name in taken:
            (out / f"{name}.ok").touch()
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ROOT": str(tmp_path), "OUT": str(out)}
        words = [tmp_path / "pgbackrest-queue", "a", region, f"pg_wal/{file}", *option]
        # As PostgreSQL's.
        done = subprocess.run(words, cwd=tmp_path, env=environment, umask=0o077, capture_output=True, text=True, check=False)
        figures = tmp_path / f"var/lib/prometheus/node-exporter/dob-wal-queue-{region}.prom"
        assert figures.stat().st_mode & 0o777 == 0o644, "node-exporter must read it"
        lines = figures.read_text().splitlines()
        return done.returncode, done.stdout.splitlines(), dict(line.split() for line in lines if line[0] != "#")

    return run


ONE, TWO, THREE = (f"00000001000000000000001{digit}" for digit in "123")


def test_a_bucket_that_works_takes_the_next_files_while_another_is_lost(queue):
    assert queue("lost", ONE)[:2] == (82, [f"lost {ONE}"])
    assert queue("good", ONE, ready=[ONE, TWO, THREE], taken=[ONE])[:2] == (0, [f"good {TWO}"])
    assert queue("good", ONE, taken=[ONE, TWO, THREE])[:2] == (0, [])


def test_a_full_queue_is_given_up_for_its_own_bucket_alone(queue):
    code, said, figures = queue("lost", ONE, ready=[ONE, TWO])
    assert (code, said, figures['dob_wal_queue_files{repo="lost"}']) == (82, [f"lost {ONE}"], "2")
    assert 'dob_wal_dropped_timestamp_seconds{repo="lost"}' not in figures
    code, said, figures = queue("lost", ONE, ready=[THREE])
    assert (code, said, figures['dob_wal_queue_files{repo="lost"}']) == (0, [f"lost {ONE} dropped"], "3")
    assert int(figures['dob_wal_dropped_timestamp_seconds{repo="lost"}']) > 0
    # The other bucket has more files ready than its queue holds, and gets them all.
    code, said, figures = queue("good", ONE, taken=[ONE])
    assert (code, said, figures['dob_wal_queue_files{repo="good"}']) == (0, [f"good {TWO}"], "2")
    assert 'dob_wal_dropped_timestamp_seconds{repo="good"}' not in figures


def test_a_file_that_is_archived_alone_is_asked_for_itself(queue):
    assert queue("good", TWO, ready=[ONE, TWO], option=["--no-archive-async"])[:2] == (0, [f"good {TWO}"])
