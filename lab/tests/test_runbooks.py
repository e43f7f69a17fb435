"""What the runbooks tell people to type runs, where their pages say."""

import json
import shlex
import subprocess
import sys

import pytest

from docs.runbooks import pages as runbooks
from lab.trials.reader import Reader
from tools import TOP

# Runs blocks of commands completely, and reports for each the failed lines, its output and its error output.
RUNNER = """
import json, os, subprocess, sys, tempfile
answers = []
for block in json.load(sys.stdin):
    with tempfile.NamedTemporaryFile("r") as failed:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", 'trap \\'echo "$? $LINENO" >>"$FAILED"\\' ERR; ' + block],
            env={**os.environ, "FAILED": failed.name}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )
        failures = [list(map(int, line.split())) for line in failed] or [[done.returncode, 0]] * (done.returncode != 0)
    answers.append({"failures": failures, "said": done.stdout, "complained": done.stderr})
print(json.dumps(answers))
"""
BLOCKS = [block for block in runbooks.blocks() if block.mark in runbooks.RUN]


@pytest.fixture(scope="module")
def answers(cluster, tmp_path_factory):
    """What came of each block: one connection a host, however many blocks."""
    cluster.mend()
    reader = Reader(cluster, tmp_path_factory.mktemp("operator"))
    hosts, own = reader.places(), reader.own("--list-hosts")
    asked = {}
    for block in BLOCKS:
        asked.setdefault(hosts.get(block.mark), set()).add(block.commands)
    known = {}
    for host, blocks in asked.items():
        blocks = sorted(blocks)
        texts = [reader.filled(block) if host else own + reader.filled(block) for block in blocks]
        command = cluster.ssh_command(host, f"cd / && python3 -c {shlex.quote(RUNNER)}") if host else [sys.executable, "-c", RUNNER]
        here = {"cwd": TOP / "ansible", "env": cluster.environment()}
        ran = cluster.operator(*command, input=json.dumps(texts), check=True, capture_output=True, timeout=600, **here)
        known |= {(host, block): answer for block, answer in zip(blocks, json.loads(ran.stdout), strict=True)}
    return {block: known[hosts.get(block.mark), block.commands] for block in BLOCKS}


@pytest.mark.long
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}-{block.mark}")
def test_the_commands_of_a_page_run_where_it_says(block, answers):
    answer = answers[block]
    # Who finds nothing ends with 1 and says no word, as grep does: on a cluster that is well, that is an answer.
    failures = [failure for failure in answer["failures"] if failure[0] != 1 or answer["complained"]]
    assert failures == [], f"status and line of what failed in\n{block.commands}{answer['said']}{answer['complained']}"


def test_the_runner_tells_what_failed():
    blocks = ["true\nno-such-command\ntrue\n", "false | tail\n", "if\n", "echo said\n"]
    ran = subprocess.run([sys.executable, "-c", RUNNER], input=json.dumps(blocks), check=True, capture_output=True, text=True, timeout=60)
    assert [answer["failures"] for answer in json.loads(ran.stdout)] == [[[127, 2]], [[1, 1]], [[2, 0]], []]
