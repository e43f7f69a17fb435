"""What a person types into a workflow is a text to the playbook, whatever it says. The commands are those of the workflow files."""

import os
import pathlib
import re

import pytest
import yaml

from test_aws import client, cloud, run  # noqa: F401 the fixture is this module's too
from tools import TOP

COMMANDS = [
    step["run"]
    for job in yaml.safe_load((TOP / ".github/workflows/failover.yml").read_text())["jobs"].values()
    for step in job["steps"]
    if step.get("run", "").startswith("./dev play")
]
ATTACKS = {
    "a lookup": "{{ lookup('pipe', 'touch MARK') }} Jo",
    "a statement": "{% set x = lookup('pipe', 'touch MARK') %}Jo",
    "another fence": "x' region_fence_command='touch MARK #",
    "another region": "x' target_region='a",
    "an object": '{"region_fence_command": "touch MARK"}',
    "a script": '"; touch MARK; $(touch MARK) `touch MARK`',
}


@pytest.fixture(scope="module")
def alone(cloud):  # noqa: F811
    """Only region b has hosts that the cloud still knows."""
    ec2 = client("ec2", "eu-west-1")
    found = ec2.describe_instances(Filters=[{"Name": "tag:Region", "Values": ["a"]}])["Reservations"]
    ec2.terminate_instances(InstanceIds=[host["InstanceId"] for group in found for host in group["Instances"]])
    return cloud


@pytest.fixture
def operator(alone, tmp_path):
    """A runner's environment, in which no tunnel opens: what is looked at here comes before the first host."""
    (tmp_path / "aws").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "aws").chmod(0o755)
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return alone | {"PATH": f"{tmp_path}:{alone['PATH']}", "RUNNER_TEMP": str(tmp_path), "XDG_CACHE_HOME": str(cache)}


def fail_over(operator, command, override):
    return run(operator | {"REGION": "b", "OVERRIDE": override}, "bash", "-c", f"cd {TOP} && {command}")


# Each takes ten seconds: some of a kind are enough for the short form.
def some(first, *others):
    return [first, *(pytest.param(one, marks=pytest.mark.long) for one in others)]


@pytest.mark.parametrize("attack", some(*ATTACKS))
def test_an_override_that_is_an_attack_arrives_as_the_text_that_it_is(operator, tmp_path, attack):
    text = ATTACKS[attack].replace("MARK", str(tmp_path / "mark"))
    done = fail_over(operator, COMMANDS[-1], text)
    assert not (tmp_path / "mark").exists(), done.stdout
    said = re.search(r'"msg": "without proof: (.*)"$', done.stdout, re.M)
    assert said and said[1].replace('\\"', '"') == text, done.stdout + done.stderr


@pytest.mark.parametrize("text", some("It's off, says Zoë", "yes", "{}"))
def test_an_honest_override_arrives_whole(operator, text):
    done = fail_over(operator, COMMANDS[0], text)
    assert f'"msg": "without proof: {text}"' in done.stdout, done.stdout + done.stderr


def test_no_override_is_a_refusal(operator):
    done = fail_over(operator, COMMANDS[-1], "")
    assert done.returncode != 0 and "nothing proves that they are off" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("region", some("b:region_a", "x", "{{ 'b' }}"))
def test_a_region_that_there_is_not_is_refused(operator, region):
    done = run(operator | {"REGION": region, "OVERRIDE": "Jo"}, "bash", "-c", f"cd {TOP} && {COMMANDS[-1]}")
    assert done.returncode != 0 and "name the region" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(("text", "said"), [("two\nlines", "cannot be printed"), (None, "the environment has no OVERRIDE")])
def test_what_is_no_line_of_text_is_refused_before_anything_happens(operator, text, said):
    given = {name: value for name, value in (operator | {"REGION": "b", "OVERRIDE": text}).items() if value is not None}
    done = run(given, "bash", "-c", f"cd {TOP} && {COMMANDS[-1]}")
    assert done.returncode == 64 and said in done.stderr and not done.stdout
