"""Each step of a workflow is one command that is tested elsewhere: here, that it is there and takes what it is given."""

import os
import re
import subprocess

import pytest
import yaml

from conftest import TOP, run, tasks

WORKFLOWS = sorted((TOP / ".github/workflows").glob("*.yml"))
# What stands before a command when the suites need root, and what a runner brings.
AS_ROOT = 'sudo --preserve-env env "PATH=$PATH" '
TOOLS = {"aws", "gh", "install", "jq", "skopeo", "sudo", "test"}


def jobs():
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            yield f"{path.stem}-{name}", job


def steps():
    for name, job in jobs():
        for step in job["steps"]:
            yield name, step


COMMANDS = [pytest.param(step["run"], id=f"{name}: {step['run']}") for name, step in steps() if "run" in step]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_step_is_one_command_that_is_there(command):
    assert "\n" not in command.strip()
    words = command.removeprefix(AS_ROOT).split()
    if words[0] in TOOLS:
        return
    assert os.access(TOP / words[0], os.X_OK)
    if words[0] == "./dev":
        assert words[1] in tasks()
    for word in words:
        if re.fullmatch(r"[\w/-]+\.yml", word):
            assert (TOP / "ansible" / word).exists()


def ours(command):
    """Whether the flags of a command are ours, and not handed on to Ansible or Terraform."""
    return command.split()[0] not in TOOLS and not command.startswith(("./dev play", "./dev infra"))


FLAGGED = [command.removeprefix(AS_ROOT) for (command,) in (param.values for param in COMMANDS) if " --" in command.removeprefix(AS_ROOT)]


@pytest.mark.parametrize("command", sorted(filter(ours, FLAGGED)))
def test_a_step_gives_only_flags_that_the_command_knows(command):
    program = command.split()[: 2 if command.startswith("./dev ") else 1]
    known = run(*program, "--help")
    for flag in re.findall(r"(?<= )--[\w-]+", command):
        assert flag in known


# What a person types, or an event brings: the values of `choice` are GitHub's to refuse, and numbers are harmless.
FOREIGN = re.compile(r"\$\{\{[^}]*\b(inputs|github\.event|github\.head_ref|github\.ref_name)\b")


def foreign():
    """Yields each variable of a job, or of a step, that holds a text from outside, and the commands that see it."""
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        dispatch = (workflow.get(True) or {}).get("workflow_dispatch") or {}
        chosen = {name for name, given in (dispatch.get("inputs") or {}).items() if given.get("type") == "choice"}
        for job, content in workflow["jobs"].items():
            for step in content["steps"]:
                everywhere = {**(workflow.get("env") or {}), **(content.get("env") or {}), **(step.get("env") or {})}
                for name, value in everywhere.items():
                    if FOREIGN.search(str(value)) and "run" in step:
                        free = not re.fullmatch(rf"\$\{{\{{ (inputs\.({'|'.join(chosen) or '-'})|github\.event\.pull_request\.number) \}}\}}", value)
                        yield pytest.param(name, step["run"], free, id=f"{path.stem}-{job}: {name} in {step['run']}")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_value_is_written_into_the_text_of_a_script(command):
    assert "${{" not in command


@pytest.mark.parametrize("command", [one for one in COMMANDS if "./dev play" in one.values[0]])
def test_a_playbook_gets_no_variable_from_the_command_line(command):
    """Ansible renders what stands there, and splits it at spaces and quotes."""
    assert not re.search(r"(^| )(-e|--extra-vars)\b", command)


@pytest.mark.parametrize(("name", "command", "free"), list(foreign()))
def test_a_text_from_outside_is_one_argument_that_no_program_takes_for_a_flag_or_a_template(name, command, free):
    for place in re.finditer(rf"\$\{{?{name}\b", command):
        start = command.rfind(" ", 0, place.start()) + 1
        word = command[start : command.find(" ", place.start()) if " " in command[place.start() :] else None]
        assert re.fullmatch(r'[<>]*".*"', word), f"{word} is split at spaces"
        assert "./dev play" not in command, "a playbook gets it by --input"
        alone = word.startswith(f'"${name}') and free and not command.startswith("test ")
        # A tag starts with v, as the workflow's trigger says.
        assert not alone or name == "TAG" or " -- " in command[:start], f"{word} may be a flag"


def test_the_change_runs_every_suite():
    suites = re.search(r"^suites=\((.*)\)$", (TOP / "tests/run").read_text(), re.M).group(1).split()
    job = dict(jobs())["ci-test"]
    assert sorted(job["strategy"]["matrix"]["suite"]) == sorted(suites)


def test_the_gate_waits_for_every_job():
    ci = yaml.safe_load((TOP / ".github/workflows/ci.yml").read_text())["jobs"]
    assert set(ci["gate"]["needs"]) == set(ci) - {"gate"}


@pytest.mark.parametrize(("results", "passes"), [('["success","success"]', True), ('["success","skipped"]', False), ('["cancelled"]', False)])
def test_the_gate_passes_only_what_succeeded(results, passes):
    command = dict(jobs())["ci-gate"]["steps"][0]["run"]
    ended = subprocess.run(["bash", "-c", command], env=os.environ | {"RESULTS": results}, check=False, capture_output=True)
    assert (ended.returncode == 0) == passes


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_grants_nothing_at_the_top_and_never_cancels_a_change(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    assert all("timeout-minutes" in job and "permissions" in job for job in workflow["jobs"].values())
    assert workflow["concurrency"]["cancel-in-progress"] in (False, "${{ github.event_name == 'pull_request' }}")


def test_zizmor_finds_nothing_at_its_strictest():
    run("zizmor", "--offline", "--pedantic", "--no-progress", "--quiet", ".github")
