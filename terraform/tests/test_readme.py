"""The README's way from an empty account to a greeting: each of its commands is taken, in an order that can work.

What the commands do is shown by the tests that apply all roots; here they are read from the README's own text, so that it names no
command, root, setting or output that is not there. `terraform` is one that only notes what it is asked for.
"""

import os
import re
import shutil

import pytest

import cloud

README = (cloud.HERE.parent / "README.md").read_text()
WAY = re.search(r"^## From an empty account.*?^(1\. .*?)^\S*Until", README, re.M | re.S)[1]
NOTING = """#!/bin/sh
case $1 in version) echo "Terraform v1.11.4" && exit ;; esac
echo "$*" >>"$NOTES"
"""


def commands():
    """Those for the infrastructure, in the order of the text."""
    return [re.sub(r"\bZONE\b", "Z1", command) for command in re.findall(r"`\./dev infra ([^`]+)`", WAY)]


@pytest.fixture
def noted(tmp_path):
    """Runs a command of the README, and returns what Terraform was asked for."""
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
    order += ["infra check` must say", "apply primary", "peering = ", "openssl req", "infra secrets", "play site.yml", "dev publish", "curl -X PUT"]
    places = [WAY.index(mark) for mark in order]
    assert places == sorted(places)


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
