"""What WAL is saved, and what is left out, by the program that PostgreSQL and Patroni call."""

import os
import shutil
import subprocess

import pytest

from lab import TOP

PUSH = TOP / "ansible/roles/pgbackrest/files/pgbackrest-push"
HISTORY = "1\t0/13007818\tno recovery target specified\n2\t0/15000000\tno recovery target specified\n"
SAVES = '#!/bin/sh\nshift && echo "$@"\n'
FETCHES = '#!/bin/sh\n[ "$2" = {} ] && printf "1\\t0/13007818\\tno\\n" >"$3"\n'


@pytest.fixture
def push(tmp_path):
    """Pushes a file from a data directory, with these histories and ready files there; the bucket knows the history of timeline 2."""
    shutil.copy(PUSH, tmp_path)
    for name, text in (("pgbackrest", SAVES), ("archive-get", FETCHES.format("00000002.history"))):
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
        done = subprocess.run([tmp_path / PUSH.name, "a b", path], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip(), sorted(file.name for file in status.iterdir())

    run.folder = tmp_path / "pg_wal"
    return run


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
    assert (code, said) == (0, f"archive-push pg_wal/{file}" if saved else "")


def test_a_former_primary_asks_the_bucket_where_the_next_timeline_began(push):
    whole, stray = "000000010000000000000012", "000000010000000000000013"
    # pgBackRest saves whatever is ready: what must not be is taken from it first.
    assert push(push.folder / whole, ready=[whole, stray]) == (0, f"archive-push {push.folder / whole}", [f"{whole}.ready", f"{stray}.done"])
    assert push(push.folder / stray)[:2] == (0, "")


def test_what_pgbackrest_takes_along_with_an_older_file_is_judged_by_the_bucket_too(push):
    get = FETCHES.format("00000004.history").replace("1\\t0", "3\\t0")
    push.folder.parent.joinpath("archive-get").write_text(get)
    older, stray = "000000010000000000000012", "000000030000000000000013"
    done = push(push.folder / older, histories=["00000003.history"], ready=[older, stray])
    assert done == (0, f"archive-push {push.folder / older}", [f"{older}.ready", f"{stray}.done"])


def test_an_older_file_is_saved_alone_while_the_next_timeline_is_unknown(push):
    older, newest = "000000010000000000000012", "000000030000000000000013"
    done = push(push.folder / older, histories=["00000003.history"], ready=[older, newest])
    assert done == (0, f"--no-archive-async archive-push {push.folder / older}", [f"{older}.ready", f"{newest}.ready"])


def test_a_former_primary_saves_nothing_while_the_next_timeline_is_unknown(push):
    assert push(push.folder / "000000020000000000000012")[:2] == (1, "")


def test_a_primary_that_was_replaced_while_it_was_cut_off_saves_nothing_beyond_the_fork(push):
    assert push("pg_wal/000000010000000000000012")[:2] == (0, "archive-push pg_wal/000000010000000000000012")
    assert push("pg_wal/000000010000000000000013")[:2] == (0, "")


def test_a_primary_that_sees_no_bucket_saves_nothing(push):
    push.folder.parent.joinpath("archive-get").write_text("#!/bin/sh\nexit 200\n")
    assert push("pg_wal/000000020000000000000016")[:2] == (1, "")


def test_a_primary_that_sees_only_the_other_bucket_saves_everything(push):
    push.folder.parent.joinpath("archive-get").write_text('#!/bin/sh\n[ "$REPOSITORY" = 2 ] || exit 200\nexit 1\n')
    assert push("pg_wal/000000020000000000000016")[:2] == (0, "archive-push pg_wal/000000020000000000000016")


def test_a_primary_that_was_never_replaced_saves_everything(push):
    assert push("pg_wal/000000020000000000000016")[:2] == (0, "archive-push pg_wal/000000020000000000000016")
