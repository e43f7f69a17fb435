"""The one test command: it runs every suite, and its last line is the sum."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from conftest import TOP


def read_pid(file):
    """What a script wrote into a file about itself."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if file.exists() and file.read_text().strip():
            return int(file.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{file.name} did not start")


@pytest.fixture
def suites(tmp_path):
    """A function that gives each named suite a script, and the others one that passes; it returns `tests/run`."""

    def made(**scripts):
        for file in ("tests/run", "tools/lib.sh"):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            shutil.copy(TOP / file, tmp_path / file)
        names = re.search(r"^suites=\((.*)\)$", (TOP / "tests/run").read_text(), re.M).group(1).split()
        places = {
            "service": ["bin/cargo", "dev"],
            "hostile": ["tests/hostile/run", "tests/generated-clients/run"],
            "package": ["packaging/tests/run"],
            "infra": ["terraform/tests/run"],
            "rehearsal": ["rehearsal/tests/run"],
            "cluster": ["lab/tests/run"],
            "image": ["ami/tests/run"],
        }
        for suite in names:
            for place in places.get(suite, [f"tests/{suite}/run"]):
                script = tmp_path / place
                script.parent.mkdir(parents=True, exist_ok=True)
                script.write_text("#!/bin/sh\n" + scripts.get(suite, "echo '1 passed, 0 failed'\n"))
                script.chmod(0o755)
        return [tmp_path / "tests/run"]

    return made


def test_the_suites_end_with_what_each_took_and_their_sum(suites):
    program = suites(docs="echo '3 passed, 1 failed'\n", monitoring="echo '2 passed, 0 failed'\n")
    ended = subprocess.run([*program, "docs", "monitoring"], check=False, capture_output=True, text=True)
    *_, head, docs, monitoring, note, last = ended.stdout.splitlines()
    assert (ended.returncode, last, note.split(":")[0]) == (1, "5 passed, 1 failed", "busy")
    assert head.split() == ["suite", "time", "busy"]
    assert all(re.fullmatch(rf"{suite} +\d+ min \d\d s +\d+ %", row) for suite, row in (("docs", docs), ("monitoring", monitoring)))


def whole(program, folder):
    environment = os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
    return subprocess.Popen(
        program,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
        # A run in the background of a script ignores the first of these, and so would bash.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


# Each waits for the other, so one after the other they would wait for ever.
MEET = "touch {mine}; timeout 30 sh -c 'until [ -e {other} ]; do sleep 0.1; done' && echo '1 passed, 0 failed'\n"


def test_suites_that_only_compute_run_behind_the_cluster(suites, tmp_path):
    program = suites(cluster=MEET.format(mine="cluster", other="infra"), infra=MEET.format(mine="infra", other="cluster"))
    said, _ = whole(program, tmp_path).communicate(timeout=120)
    # cargo's four checks, hostile's two, and one each of the seven others.
    assert said.splitlines()[-1] == "13 passed, 0 failed"
    assert "== terraform/tests/run" in said


@pytest.mark.parametrize(("script", "sum_"), [("echo '1 passed, 2 failed'; exit 1\n", "13 passed, 2 failed"), ("exit 3\n", "12 passed, 1 failed")])
def test_a_failure_behind_the_cluster_counts(suites, tmp_path, script, sum_):
    process = whole(suites(infra=script), tmp_path)
    said, _ = process.communicate(timeout=120)
    assert (process.returncode, said.splitlines()[-1]) == (1, sum_)


def test_a_killed_run_behind_the_cluster_counts_as_one_failure(suites, tmp_path):
    # The suites behind run in a session of their own, whose first process is their run.
    process = whole(suites(infra="kill -KILL $(ps -o sid= -p $$)\n", cluster="sleep 1; echo '1 passed, 0 failed'\n"), tmp_path)
    said, _ = process.communicate(timeout=120)
    assert (process.returncode, said.splitlines()[-1]) == (1, "10 passed, 1 failed")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_no_suite_outlives_the_run(suites, tmp_path, sign):
    hang = "echo $$ >{0}; exec sleep 300\n"
    process = whole(suites(cluster=hang.format("cluster"), infra=hang.format("infra")), tmp_path)
    pids = [read_pid(tmp_path / name) for name in ("cluster", "infra")]
    os.killpg(process.pid, sign)
    process.communicate(timeout=60)
    assert not [pid for pid in pids if pathlib.Path(f"/proc/{pid}").exists()]
