"""The page from an empty account to a failover: each of its commands is accepted, in an order that can work.

The tests that apply all roots show what the commands do. Here they are read from the page's own text, so that it names no command, root,
setting or output that does not exist. `terraform` is one that only notes what it is asked for.
"""

import os
import re
import shutil

import pytest

import cloud

PAGE = (cloud.HERE.parents[1] / "docs/deploy-aws.md").read_text()
WAY = PAGE.partition("## To a greeting")[2].partition("## Remove everything")[0]
NOTING = """#!/bin/sh
case $1 in version) echo "Terraform v1.11.4" && exit ;; esac
echo "$*" >>"$NOTES"
"""


def commands():
    """Those for the infrastructure, in the order of the text."""
    return [re.sub(r"\bZONE\b", "Z1", command) for command in re.findall(r"(?:`|^)\./dev infra ([^`\n]+)", WAY, re.M)]


@pytest.fixture
def noted(tmp_path):
    """Runs a command of the page, and returns what Terraform was asked for."""
    shutil.copytree(cloud.HERE.parent, tmp_path / "terraform", ignore=shutil.ignore_patterns("tests", ".terraform", "*.tfvars", "backend.hcl"))
    tools, notes = tmp_path / "bin", tmp_path / "notes"
    tools.mkdir()
    (tools / "terraform").write_text(NOTING)
    (tools / "terraform").chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "NOTES": str(notes)}

    def run(command):
        notes.write_text("")
        cloud.run(tmp_path / "terraform/infra", *command.split(), env=environment)
        return notes.read_text().splitlines()

    return run


def test_each_command_reaches_terraform_on_its_root(noted):
    roots = []
    for command in commands():
        verb, *rest = command.split()
        if verb in ("check", "secrets"):
            continue
        asked = [line for line in noted(command) if f" {verb}" in line]
        assert asked and asked[0].startswith(f"-chdir={rest[0]} {verb}"), (command, asked)
        roots += [rest[0]] if verb == "apply" else []
    assert roots[:4] == ["bootstrap", "global", "primary", "failover"]


def test_outputs_and_settings_that_the_way_names_are_there():
    for command in commands():
        if match := re.fullmatch(r"output (\w+) (\w+)", command):
            assert f'output "{match[2]}"' in (cloud.HERE.parent / match[1] / "outputs.tf").read_text(), command
        if match := re.match(r"import (\w+) (\w+)\.(\w+) ", command):
            assert f'resource "{match[2]}" "{match[3]}"' in "".join(file.read_text() for file in (cloud.HERE.parent / match[1]).glob("*.tf"))
    variables = (cloud.HERE.parent / "primary/variables.tf").read_text() + (cloud.HERE.parent / "global/variables.tf").read_text()
    for name in re.findall(r"`(\w+) = [^`]+`", WAY):
        assert f'variable "{name}"' in variables, name


def test_what_a_step_needs_comes_before_it():
    """A quota that takes hours, a key, a zone that is led to, before what waits for them or fails without."""
    order = ["5 processors", "ssh-keygen", "apply bootstrap", "infra import global", "apply global", "dig +short NS"]
    order += ["infra check` must", "apply primary", "peering = ", "openssl req", "infra secrets", "play site.yml", "dev publish", "curl -X PUT"]
    order += ["fence-instance", "failback.yml", "failover-region.yml"]
    places = [WAY.index(mark) for mark in order]
    assert places == sorted(places)


def test_each_step_has_its_output_time_cost_and_undo():
    steps = re.split(r"^\*\*\d+\. ", WAY, flags=re.M)[1:]
    assert [step.partition(".")[0] for step in steps for part in ("```sh", "You see:", "Time:", "Cost:", "ndo") if part not in step] == []
    assert re.findall(r"^\*\*(\d+)\. ", WAY, re.M) == [str(number + 1) for number in range(len(steps))]


def test_a_domain_of_the_way_is_the_same_in_each_step():
    assert set(re.findall(r"(?<![\w.])(?:api\.)?(dob\.example\.com)", WAY)) == {"dob.example.com"}


def test_opentofu_runs_instead_and_may_write_its_own_lock(tmp_path, noted):
    tofu = tmp_path / "bin/tofu"
    tofu.write_text(NOTING.replace("Terraform v1.11.4", "OpenTofu v1.10.5"))
    tofu.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "NOTES": str(tmp_path / "notes"), "TERRAFORM": "tofu"}
    cloud.run(tmp_path / "terraform/infra", "plan", "bootstrap", env=environment)
    asked = (tmp_path / "notes").read_text().splitlines()
    assert asked == ["-chdir=bootstrap init -input=false", "-chdir=bootstrap plan"]
