"""What `./dev rehearse` prints of a part, so that a person can follow it."""

import contextlib
import json
import types

import pytest

from rehearsal import act, cli


def entry(job, name, **more):
    return json.dumps({"jobID": job, "job": f"release/{name}", "msg": "…", **more}) + "\n"


def test_each_job_is_one_line_when_it_ends_and_of_a_matrix_the_worst_counts(capsys):
    lines = [
        "act has no engine of containers\n",
        entry("image", "image amd64-1  "),
        entry("image", "image arm64-2  ", jobResult="failure"),
        entry("image", "image amd64-1  ", jobResult="success"),
        entry("guard", "guard          ", jobResult="success"),
    ]
    jobs, log = act.read(iter(lines), cli.show)
    assert jobs == {"image": "failure", "guard": "success"} and log.startswith("act has no engine")
    assert [line.split()[:-2] for line in capsys.readouterr().out.splitlines()] == [
        ["failure", "image", "arm64"],
        ["ok", "image", "amd64"],
        ["ok", "guard"],
    ]


@pytest.fixture
def rehearse(monkeypatch, capsys):
    """Runs parts that end as they are told, in a cloud that is as it is told before and after each."""

    def run(ends, states):
        kept = iter(states)
        monkeypatch.setattr(cli, "Place", lambda: contextlib.nullcontext(types.SimpleNamespace()))
        monkeypatch.setattr(cli, "Account", lambda _: types.SimpleNamespace(make=lambda: None))
        monkeypatch.setattr(cli.changes, "seen", lambda *_: next(kept))
        monkeypatch.setattr(cli, "happen", lambda *_: None)
        monkeypatch.setattr(cli, "play", lambda _, part: ends[part])
        return cli.main(list(ends)), capsys.readouterr()

    return run


def ended(result, failed=(), said=""):
    return act.Ended({"job": result}, "what act printed", said, list(failed), {"job"})


def test_what_a_part_changed_is_printed(rehearse):
    code, printed = rehearse({"release": ended("success")}, [["an image"], ["an image", "an image", "a release"]])
    assert code == 0 and "release: A version is tagged." in printed.out and "1 of 1 parts are green" in printed.out
    assert [line for line in printed.out.splitlines() if "->" in line] == ["  ->  an image", "  ->  a release"]


def test_a_part_that_fails_says_why_and_ends_the_story(rehearse):
    red = ended("failure", ["roll-out: eu-west-1 has no image 9.9.9"], "the last lines\n")
    code, printed = rehearse({"deploy": red, "drill": ended("success")}, [[], []])
    assert code == 1 and "deploy is RED: roll-out: eu-west-1 has no image 9.9.9\n" in printed.out and "0 of 2 parts are green" in printed.out
    assert "drill" not in printed.out and printed.err.endswith("what act printed\nthe last lines\n")
