"""The GitHub side: what is missing of it is said in a sentence each, and a plan is one comment for each root."""

import json
import os
import subprocess
import sys

import pytest

from conftest import TOP
from rehearsal import workflows

REPOSITORY = "owner/dob-api"
HERE = f"repos/{REPOSITORY}"


def complete():
    """What GitHub answers for a repository that is as docs/github.md says."""
    answers = {
        "repos/{owner}/{repo}": {"full_name": REPOSITORY},
        f"{HERE}/actions/secrets": {"secrets": []},
        f"{HERE}/actions/permissions/workflow": {"default_workflow_permissions": "read"},
        f"{HERE}/rulesets": [{"id": 1}, {"id": 2}],
    }
    values = {
        "AWS_ACCOUNT": "123456789012", "DOMAIN": "dob.example.com", "APT_BUCKET": "dob-api-apt-123456789012-eu-west-1",
        "APT_URL": "https://apt.example.org", "APT_FINGERPRINT": "0123456789ABCDEF0123456789ABCDEF01234567", "TERRAFORM_ROOTS": '{"primary": {}}',
    }  # fmt: skip
    answers[f"{HERE}/actions/variables"] = {"variables": [{"name": name, "value": value} for name, value in values.items()]}
    for name, wanted in workflows.SETTINGS["environments"].items():
        rules = [{"type": "required_reviewers", "prevent_self_review": True, "reviewers": [{"type": "Team"}]}] if wanted["reviewers"] else []
        policies = [dict(zip(("type", "name"), place.split(), strict=True)) for place in wanted["from"]]
        answers[f"{HERE}/environments/{name}"] = {"protection_rules": rules, "deployment_branch_policy": {"custom_branch_policies": True}}
        answers[f"{HERE}/environments/{name}/deployment-branch-policies"] = {"branch_policies": policies}
        answers[f"{HERE}/environments/{name}/secrets"] = {"secrets": [{"name": secret} for secret in wanted["secrets"]]}
    for number, (target, kinds) in enumerate(workflows.SETTINGS["rules"].items(), 1):
        kind, _, name = target.partition(" ")
        given = {"required_status_checks": [{"context": "gate"}], "required_approving_review_count": 1}
        rules = [{"type": one, "parameters": given} for one in kinds]
        where = "refs/tags/" + name if kind == "tag" else "~DEFAULT_BRANCH"
        answers[f"{HERE}/rulesets/{number}"] = {
            "target": kind, "enforcement": "active", "conditions": {"ref_name": {"include": [where]}}, "rules": rules
        }  # fmt: skip
    return answers | {f"repos/{action}/git/commits/{pin['commit']}": {} for action, pin in workflows.PINS.items()}


@pytest.fixture
def github(tmp_path):
    """Asks a command against these answers, and returns how it ended."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(f'#!/bin/sh\nexec {sys.executable} -B {TOP}/tests/docs/gh.py "$@"\n')
    (tmp_path / "bin/gh").chmod(0o755)
    file = tmp_path / "answers.json"
    environment = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "GH_ANSWERS": str(file), "GH_TOKEN": "token"}
    environment.pop("GITHUB_REPOSITORY", None)

    def ask(*command, answers=None, **more):
        if answers is not None:
            file.write_text(json.dumps(answers))
        changed = {name: value for name, value in (environment | more).items() if value is not None}
        return subprocess.run(command, cwd=TOP, env=changed, capture_output=True, text=True, check=False)

    ask.kept = lambda: json.loads(file.read_text())
    return ask


def check(github, answers, *arguments, **more):
    return github("./dev", "github-check", *arguments, answers=answers, **more)


def test_a_repository_that_has_everything_is_said_to_have_it(github):
    ended = check(github, complete())
    assert (ended.returncode, ended.stderr) == (0, "") and "everything is as the workflows need it" in ended.stdout


def without(path, **changes):
    """Changes what one path answers."""

    def change(answers):
        if changes:
            answers[f"{HERE}/{path}"] |= changes
        else:
            del answers[f"{HERE}/{path}"]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("environments/deploy"), "the environment deploy does not exist"),
        (without("environments/deploy", protection_rules=[]), "the environment deploy has no required reviewers"),
        (without("environments/deploy", protection_rules=[{"type": "required_reviewers", "reviewers": []}]), "deploy has no required reviewers"),
        (
            without("environments/deploy", protection_rules=[{"type": "required_reviewers", "reviewers": [{}]}]),
            "deploy lets who starts a job approve it",
        ),
        (without("environments/deploy", can_admins_bypass=True), "deploy lets administrators pass its reviewers"),
        (without("rulesets/1", bypass_actors=[{"actor_type": "RepositoryRole"}]), "branch main has no rule 'pull_request'"),
        (without("rulesets/2", bypass_actors=[{"actor_type": "Team"}]), "tag v* has no rule 'update'"),
        (without("rulesets/1", rules=[{"type": "pull_request", "parameters": {}}]), "branch main takes a pull request that nobody approved"),
        (without("environments/drill", deployment_branch_policy=None), "the environment drill is open to every branch"),
        (
            without("environments/release/deployment-branch-policies", branch_policies=[{"type": "branch", "name": "*"}]),
            "release is open to branch *",
        ),
        (without("environments/database/secrets", secrets=[]), "the environment database has no secret SSH_KEY"),
        (without("actions/variables", variables=[]), "the variable DOMAIN is not set"),
        (
            without("actions/variables", variables=[{"name": "AWS_ACCOUNT", "value": "mine"}]),
            "the variable AWS_ACCOUNT has a value that cannot be right",
        ),
        (without("actions/secrets", secrets=[{"name": "AUTHORITY_KEY"}]), "the secret AUTHORITY_KEY is open to every job"),
        (without("actions/permissions/workflow", default_workflow_permissions="write"), "a job that asks for no permissions may write"),
        (without("rulesets/1", enforcement="disabled"), "branch main has no rule 'pull_request'"),
        (without("rulesets/2", rules=[]), "tag v* has no rule 'deletion'"),
        (without("rulesets/1", rules=[{"type": "deletion"}]), "branch main does not require the check 'gate'"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(github, change, said):
    answers = complete()
    change(answers)
    ended = check(github, answers)
    assert ended.returncode == 1 and said in ended.stderr
    assert all(line.startswith("github-check: ") and line.endswith("see docs/github.md") for line in ended.stderr.splitlines())


def test_a_pin_that_its_repository_does_not_have_is_named(github):
    answers = complete()
    pin = workflows.PINS["actions/attest"]["commit"]
    del answers[f"repos/actions/attest/git/commits/{pin}"]
    assert f"actions/attest has no commit {pin}" in check(github, answers).stderr


def test_a_job_learns_of_its_environment_and_its_variables_alone(github):
    few = {path: answer for path, answer in complete().items() if "environments/deploy" in path and "secrets" not in path}
    arguments = ("--environment", "deploy", "--set", "AWS_ACCOUNT", "--set", "DOMAIN")
    given = {"GITHUB_REPOSITORY": REPOSITORY, "AWS_ACCOUNT": "123456789012", "DOMAIN": "dob.example.com", "GITHUB_REF": "refs/heads/main"}
    assert check(github, few, *arguments, **given).returncode == 0
    ended = check(github, few, *arguments, **(given | {"DOMAIN": ""}))
    assert (ended.returncode, ended.stderr) == (1, "github-check: the variable DOMAIN is not set: see docs/github.md\n")


HEAD = subprocess.run(["git", "rev-parse", "HEAD"], cwd=TOP, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("environment", "ref", "status", "said"),
    [
        ("database", "refs/heads/main", None, None),
        ("database", "refs/heads/mine", None, "this runs from branch mine, and the environment database is for branch main"),
        ("database", "refs/tags/main", None, "this runs from tag main"),
        ("database", "refs/pull/7/merge", None, "this runs from refs/pull/7/merge"),
        ("database", "", None, "this runs from no branch"),
        ("release", "refs/tags/v1.0.0", "behind", None),
        ("release", "refs/tags/v1.0.0", "identical", None),
        ("release", "refs/tags/v1.0.0", "ahead", "the commit of the tag v1.0.0 is not on main"),
        ("release", "refs/tags/v1.0.0", "diverged", "the commit of the tag v1.0.0 is not on main"),
        ("release", "refs/tags/v1.0.0", None, "the commit of the tag v1.0.0 is not on main"),
        ("release", "refs/heads/v1", None, "this runs from branch v1"),
        ("release", "refs/heads/main", None, None),
    ],
)
def test_a_job_runs_from_where_its_environment_is_for_and_a_release_from_main(github, environment, ref, status, said):
    answers = complete() | ({f"{HERE}/compare/main...{HEAD}": {"status": status}} if status else {})
    ended = check(github, answers, "--environment", environment, GITHUB_REPOSITORY=REPOSITORY, GITHUB_REF=ref)
    assert (ended.returncode == 0) == (said is None) and (said or "") in ended.stderr, ended.stderr


@pytest.mark.parametrize(("token", "said"), [(None, "gh auth login"), ("token", "GitHub has no repos/{owner}/{repo}")])
def test_what_cannot_be_asked_is_one_sentence(github, token, said):
    ended = check(github, {}, GH_TOKEN=token)
    assert ended.returncode == 1 and said in ended.stderr and ended.stderr.count("\n") == 1


COMMENTS = f"{HERE}/issues/7/comments"


def comment(github, tmp_path, root, plan, answers=None):
    (tmp_path / "plan.txt").write_text(plan)
    ended = github(".github/plan-comment", "7", root, str(tmp_path / "plan.txt"), answers=answers, GITHUB_REPOSITORY=REPOSITORY)
    assert ended.returncode == 0, ended.stderr
    return [one["body"] for one in github.kept()[COMMENTS]]


def test_a_later_push_replaces_the_plan_of_its_root_and_no_other_comment(github, tmp_path):
    person = {"id": 1, "user": {"type": "User"}, "body": "<!-- plan of primary --> as I see it"}
    comment(github, tmp_path, "primary", "first\n", {COMMENTS: [person]})
    comment(github, tmp_path, "failover", "other\n")
    bodies = comment(github, tmp_path, "primary", "second\n")
    assert bodies[0] == person["body"] and len(bodies) == 3
    assert "second" in bodies[1] and "first" not in bodies[1] and "other" in bodies[2]


def test_a_plan_that_github_would_refuse_keeps_its_end(github, tmp_path):
    plan = "".join(f"  + address {number} ⟶ größer\n" for number in range(6000)) + "Plan: 6000 to add.\n"
    (body,) = comment(github, tmp_path, "primary", plan, {COMMENTS: []})
    assert len(body) < 65536 and "Plan: 6000 to add." in body and "cut off" in body
