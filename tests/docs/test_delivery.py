"""What GitHub, the runners and the cloud refuse of a workflow, read from the files: the rehearsal runs the same files."""

import os
import re
import subprocess

import pytest
import yaml

from conftest import TOP, tracked
from rehearsal import workflows
from tools import regions

JOBS = [pytest.param(path, job, id=f"{path.stem}-{name}") for path, name, job in workflows.jobs()]
STEPS = [
    pytest.param(step, id=f"{path.stem}-{name}-{number}")
    for path, name, job in workflows.jobs()
    for number, step in enumerate(job["steps"])
    if "uses" in step
]
# Seconds that a role's session may last, by its name.
HOURS = dict(re.findall(r"^    (\w+) +=.*\bhours = (\d+)", (TOP / "terraform/global/workflows.tf").read_text(), re.M))
# What a hosted runner does not bring.
ABSENT = {"terraform": "hashicorp/setup-terraform"}


def takes_a_role(job):
    """The step in which a job gets the cloud's credentials."""
    return next((step for step in job["steps"] if step.get("uses", "").startswith("aws-actions/")), None)


def commands(job):
    return [step.get("run", "") for step in job["steps"]]


def before(job, first, second):
    """Whether a step that holds `first` stands before the first one that holds `second`."""
    texts = [step.get("run", step.get("uses", "")) for step in job["steps"]]
    place = {part: next((number for number, text in enumerate(texts) if part in text), None) for part in (first, second)}
    return place[second] is None or (place[first] is not None and place[first] < place[second])


@pytest.mark.parametrize("step", STEPS)
def test_an_action_is_pinned_to_a_commit_that_its_repository_has(step):
    action, commit = step["uses"].split("@")
    assert commit == workflows.PINS.get(action, {}).get("commit"), f"{action} is not in rehearsal/pins.toml by this commit"


def test_the_comment_behind_a_pin_names_its_tag():
    text = "".join(path.read_text() for path in workflows.FILES)
    named = set(re.findall(r"uses: ([\w./-]+)@[0-9a-f]{40} # (\S+)", text))
    assert named == {(action, pin["tag"]) for action, pin in workflows.PINS.items()}


@pytest.mark.parametrize("step", STEPS)
def test_an_action_gets_the_inputs_that_it_knows_and_those_it_must_have(step):
    known, must = workflows.inputs(step["uses"].split("@")[0])
    assert must <= set(step.get("with", {})) <= known


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_a_job_has_the_permissions_that_its_steps_need_and_no_others(path, job):
    assert list(workflows.lacking(job)) == []
    assert list(workflows.unused(job)) == []


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_a_job_that_needs_terraform_installs_it_first(path, job):
    for command in commands(job):
        if command.startswith("./dev infra") or "./dev test" in command:
            assert before(job, ABSENT["terraform"], command), command


@pytest.mark.parametrize("suite", ["infra", "rehearsal"])
def test_a_suite_that_needs_terraform_has_it(suite):
    (job,) = [job for path, name, job in workflows.jobs() if (path.stem, name) == ("ci", "test")]
    (step,) = [step for step in job["steps"] if step.get("uses", "").startswith(ABSENT["terraform"])]
    assert f"matrix.suite == '{suite}'" in step["if"]


def test_what_fetches_from_debians_archive_installs_its_keys(tmp_path):
    """On a machine of another distribution, where nothing is installed."""
    for name, script in {"dpkg-query": "exit 1", "apt-get": f'echo "$*" >>{tmp_path}/asked', "id": "echo 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    subprocess.run(
        [TOP / "dev", "need", "mmdebstrap"], check=True, capture_output=True, env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    )
    assert "debian-archive-keyring" in (tmp_path / "asked").read_text()


def test_an_image_is_built_on_a_machine_of_its_architecture():
    for path, name, job in workflows.jobs():
        if any("./dev image" in command for command in commands(job)):
            runners = {one["arch"]: one["runner"] for one in job["strategy"]["matrix"].get("include", [])}
            assert runners == {"amd64": "ubuntu-24.04", "arm64": "ubuntu-24.04-arm"}, f"{path.stem}-{name}"
            assert job["runs-on"] == "${{ matrix.runner }}"


def test_an_image_takes_the_package_from_a_copy_of_the_bucket_that_the_role_may_read():
    for path, name, job in workflows.jobs():
        if any("./dev image" in command for command in commands(job)):
            assert before(job, "aws-actions/", "aws s3 sync") and before(job, "aws s3 sync", "./dev image"), f"{path.stem}-{name}"
            (command,) = [command for command in commands(job) if "./dev image" in command]
            for part in ("--repository apt", '--fingerprint "$FINGERPRINT"', '--version "$(packaging/version)"'):
                assert part in command


def test_whatever_signs_the_repository_names_the_key():
    signing = [command for _, _, job in workflows.jobs() for command in commands(job) if "./dev apt-repo" in command]
    assert len(signing) == 2 and all('--fingerprint "$FINGERPRINT"' in command for command in signing)


def test_a_refresh_never_runs_beside_a_release():
    groups = {path.stem: workflows.workflow(path)["concurrency"] for path in workflows.FILES}
    assert groups["apt-refresh"] == groups["release"]


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_a_playbook_gets_a_key_that_the_hosts_accept(path, job):
    for command in commands(job):
        if command.startswith("./dev play") and "--syntax-check" not in command:
            assert '--private-key "$RUNNER_TEMP/key"' in command
            assert before(job, '"$RUNNER_TEMP/key" <<<"${KEY:?', command)
            (step,) = [one for one in job["steps"] if '"$RUNNER_TEMP/key" <<<' in one.get("run", "")]
            assert step["env"] == {"KEY": "${{ secrets.SSH_KEY }}"}


def test_a_failover_takes_its_credentials_in_the_region_that_takes_over():
    expected = "${{{{ inputs.region == 'a' && '{a}' || '{b}' }}}}".format(**regions.NAMES)
    used = [
        takes_a_role(job)["with"]["aws-region"] for path, _, job in workflows.jobs() if path.stem in ("failover", "failback") and takes_a_role(job)
    ]
    assert len(used) == 4 and set(used) == {expected}


def test_nothing_shares_a_queue_with_the_failover():
    groups = {path.stem: str(workflows.workflow(path)["concurrency"]["group"]) for path in workflows.FILES}
    assert [name for name, group in groups.items() if "playbook" in group] == ["database", "failback"]
    assert len({groups[name] for name in ("failover", "failback", "restore-drill")}) == 3


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_a_session_lasts_as_long_as_its_job_and_its_role_allows_it(path, job):
    if step := takes_a_role(job):
        seconds = int(step["with"].get("role-duration-seconds", 3600))
        role = step["with"]["role-to-assume"].rpartition("dob-api-workflow-")[2]
        assert job["timeout-minutes"] * 60 <= seconds <= int(HOURS[role]) * 3600


@pytest.mark.parametrize(("name", "folder"), [("infra", "terraform"), ("database", "ansible")])
def test_a_change_of_the_regions_is_looked_at_like_one_of_what_reads_them(name, folder):
    paths = workflows.workflow(TOP / f".github/workflows/{name}.yml")["on"]["pull_request"]["paths"]
    assert paths == [f"{folder}/**", "regions.json"]


def test_what_is_applied_by_hand_can_be_applied():
    infra = workflows.workflow(TOP / ".github/workflows/infra.yml")
    # The state of bootstrap is on the operator's disk.
    assert infra["on"]["workflow_dispatch"]["inputs"]["root"]["options"] == ["global", "primary", "failover"]


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_an_environment_is_looked_at_before_a_job_that_names_it(path, job):
    if environment := job.get("environment"):
        everything, waiting, earlier = workflows.workflow(path)["jobs"], [job], []
        while waiting:
            needs = waiting.pop().get("needs", [])
            names = [needs] if isinstance(needs, str) else needs
            earlier += names
            waiting += [everything[name] for name in names]
        looked = [command for name in earlier if "environment" not in everything[name] for command in commands(everything[name])]
        assert any(f"github-check --environment {environment} " in command for command in looked)


@pytest.mark.parametrize("path", workflows.FILES, ids=lambda path: path.stem)
def test_a_variable_that_a_protected_job_uses_is_checked_before_it(path):
    jobs = workflows.workflow(path)["jobs"]
    used = {name for job in jobs.values() if job.get("environment") for name in workflows.variables(str(job))}
    checked = {name for job in jobs.values() for command in commands(job) for name in re.findall(r"--set (\w+)", command)}
    guards = [job for job in jobs.values() if any("--set" in command for command in commands(job))]
    assert checked == used
    assert all(job["env"][name] == f"${{{{ vars.{name} }}}}" for job in guards for name in checked)


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_a_secret_belongs_to_the_jobs_environment_and_stops_the_job_where_it_is_not_set(path, job):
    used = workflows.secrets(job)
    assert used <= set(workflows.SETTINGS["environments"].get(job.get("environment"), {}).get("secrets", []))
    for step in job["steps"]:
        for name, value in step.get("env", {}).items():
            if "secrets." in str(value):
                assert f'<<<"${{{name}:?the secret ' in step["run"], name


@pytest.mark.parametrize("path", workflows.FILES, ids=lambda path: path.stem)
def test_a_secret_is_in_the_step_that_needs_it_and_nowhere_else(path):
    """In the environment of a job every program of it can read it, those that are being installed among them."""
    found = workflows.workflow(path)
    assert "secrets." not in str({**found, "jobs": None})
    for job in found["jobs"].values():
        assert "secrets." not in str({**job, "steps": None})
        for number, step in enumerate(job["steps"]):
            assert "secrets." not in str({**step, "env": None}), step
            if "secrets.AUTHORITY_KEY" in str(step):
                assert job["environment"] == "database"
                assert all("./dev play" in later["run"] for later in job["steps"][number + 1 :]), "a program runs beside the authority's key"


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_a_token_that_may_write_is_in_one_step(path, job):
    if "github.token" in str({**job, "steps": None}):
        assert set(job["permissions"].values()) == {"read"}


def test_no_job_that_nobody_approves_has_a_key_that_signs():
    for name, wanted in workflows.SETTINGS["environments"].items():
        assert wanted["reviewers"] or not {"AUTHORITY_KEY", "APT_SIGNING_KEY"} & set(wanted["secrets"]), name


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_tools_are_installed_before_a_key_is_there(path, job):
    for command in commands(job):
        if "<<<" in command and "/dev/stdin" in command:
            assert before(job, "tools/venv production", command) or not any("./dev play" in one for one in commands(job))


def test_every_package_of_a_tool_has_a_hash():
    assert "--require-hashes" in (TOP / "tools/venv").read_text()
    pins = re.findall(r"^([\w.\[\]-]+==\S+)( \\)?$", (TOP / "tools/lock.txt").read_text(), re.M)
    assert pins and all(hashed for _, hashed in pins)


@pytest.mark.parametrize("path", workflows.FILES, ids=lambda path: path.stem)
def test_a_step_fails_with_any_command_of_its_pipe(path):
    """Without a shell that is named, GitHub runs `bash -e`, which looks at the last command alone."""
    found = workflows.workflow(path)
    if any(re.search(r"[^|]\|[^|]", command) for job in found["jobs"].values() for command in commands(job)):
        assert found["defaults"]["run"]["shell"] == "bash"


@pytest.mark.parametrize("path", workflows.FILES, ids=lambda path: path.stem)
def test_a_workflow_installs_nothing_by_a_package_manager_of_its_own(path):
    assert not re.search(r"run:.*\b(pip|pipx|npm|cargo|gem|go) install|run:.*\bcurl\b", path.read_text())


def test_every_variable_and_secret_of_a_workflow_is_in_the_settings_and_vice_versa():
    text = "".join(path.read_text() for path in workflows.FILES)
    secrets = {secret for one in workflows.SETTINGS["environments"].values() for secret in one["secrets"]}
    assert workflows.variables(text) == set(workflows.SETTINGS["variables"])
    assert {name for _, _, job in workflows.jobs() for name in workflows.secrets(job)} == secrets
    assert {job["environment"] for _, _, job in workflows.jobs() if "environment" in job} == set(workflows.SETTINGS["environments"])


def test_the_page_names_what_the_settings_name():
    page = (TOP / "docs/github.md").read_text()
    tables = set(re.findall(r"^\| `([^`]+)` \|", page, re.M))
    secrets = {secret for one in workflows.SETTINGS["environments"].values() for secret in one["secrets"]}
    assert tables == {*workflows.SETTINGS["variables"], *secrets, *workflows.SETTINGS["environments"], *workflows.SETTINGS["rules"]}
    for name, one in workflows.SETTINGS["environments"].items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert ("yes" if one["reviewers"] else "no") in row and all(place in row for place in one["from"])


def test_the_readme_has_the_line_that_verifies_a_release():
    readme = (TOP / "README.md").read_text()
    (repository,) = re.findall(r"`gh attestation verify FILE --repo (\S+)`", readme)
    (container,) = re.findall(r"^podman run .* ghcr\.io/(\S+):[\d.]+$", readme, re.M)
    assert repository == container


# The files that hold each kind of pins.
PINNED = {
    "pip": ("lock.txt", "older.txt"),
    "cargo": ("Cargo.lock",),
    "npm": ("package-lock.json",),
    "terraform": (".terraform.lock.hcl",),
    "docker-compose": ("compose.yaml",),
}


@pytest.mark.parametrize("ecosystem", PINNED)
def test_dependabot_sees_every_folder_with_pins(ecosystem):
    updates = yaml.safe_load((TOP / ".github/dependabot.yml").read_text())["updates"]
    (update,) = [one for one in updates if one["package-ecosystem"] == ecosystem]
    folders = {f"/{path.parent.relative_to(TOP)}".removesuffix(".") for name in PINNED[ecosystem] for path in tracked(f"*{name}")}
    # This lock is of clients that are generated by each test: its manifest is a template.
    assert set(update["directories"]) == folders - {"/tests/generated-clients/rust"}
