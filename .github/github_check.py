"""Lists what the GitHub repository lacks for its workflows.

.github/settings.toml lists what they need, and docs/github.md explains how to set it. As an administrator, check everything. A job
checks one environment with its token, and names the variables that it needs with --set, because its token cannot list them.
"""

import argparse
import fnmatch
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

from tools.arguments import Parser

TOP = pathlib.Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((TOP / ".github/settings.toml").read_text())
WAY = "see docs/github.md"


class Absent(Exception):
    """GitHub has no such thing."""


def said(path, *flags):
    """What GitHub's interface answers, as text."""
    done = subprocess.run(["gh", "api", *flags, path], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    if "HTTP 404" in done.stderr:
        raise Absent(path)
    reason = done.stderr.strip().splitlines() or ["no reason given"]
    raise SystemExit(f"github-check: GitHub does not answer for {path}: {reason[-1]}")


def ask(path):
    return json.loads(said(path))


def pages(path, key=""):
    """What all pages of a list hold; gh writes an element a line."""
    lines = said(f"{path}{'&' if '?' in path else '?'}per_page=100", "--paginate", "--jq", f".{key}[]").splitlines()
    return [json.loads(line) for line in lines]


def environment(repository, name):
    """What is missing of one environment, as far as a job's token may see it."""
    wanted = SETTINGS["environments"][name]
    try:
        found = ask(f"repos/{repository}/environments/{name}")
    except Absent:
        return [f"the environment {name} does not exist, and the first job that names it would create it without protection"]
    missing = []
    reviewers = [one for rule in found["protection_rules"] if rule["type"] == "required_reviewers" for one in rule["reviewers"]]
    if wanted["reviewers"] and not reviewers:
        missing.append(f"the environment {name} has no required reviewers")
    elif wanted["reviewers"] and not any(rule.get("prevent_self_review") for rule in found["protection_rules"]):
        missing.append(f"the environment {name} lets who starts a job approve it: prevent self-review")
    if wanted["reviewers"] and found.get("can_admins_bypass"):
        missing.append(f"the environment {name} lets administrators pass its reviewers: do not allow it")
    policy = found["deployment_branch_policy"] or {}
    if not policy.get("custom_branch_policies"):
        return [*missing, f"the environment {name} is open to every branch: allow only {' and '.join(wanted['from'])}"]
    policies = pages(f"repos/{repository}/environments/{name}/deployment-branch-policies", "branch_policies")
    allowed = {f"{one.get('type', 'branch')} {one['name']}" for one in policies}
    if allowed != set(wanted["from"]):
        missing.append(f"the environment {name} is open to {' and '.join(sorted(allowed)) or 'nothing'}: allow only {' and '.join(wanted['from'])}")
    return missing


def place(repository, name):
    """What is wrong with the branch or the tag that this job runs from, as the runner tells it."""
    ref, wanted = os.environ.get("GITHUB_REF", ""), SETTINGS["environments"][name]["from"]
    here = ref.replace("refs/heads/", "branch ", 1) if ref.startswith("refs/heads/") else ref.replace("refs/tags/", "tag ", 1)
    if not any(fnmatch.fnmatchcase(here, one) for one in wanted):
        return [f"this runs from {here or 'no branch'}, and the environment {name} is for {' and '.join(wanted)}"]
    if not here.startswith("tag "):
        return []
    # Anybody who may push may tag a commit that nobody has reviewed, with another workflow file.
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=TOP).stdout.strip()
    try:
        compared = ask(f"repos/{repository}/compare/main...{commit}")["status"]
    except Absent:
        compared = "unknown"
    return [] if compared in ("behind", "identical") else [f"the commit of the {here} is not on main: merge it first, then tag what was merged"]


def variable(name, value):
    if not value:
        return [f"the variable {name} is not set"]
    return [] if re.fullmatch(SETTINGS["variables"][name], value) else [f"the variable {name} has a value that cannot be right"]


def rules(repository):
    """What is missing of the rules for branches and tags."""
    missing, active = [], {}
    for one in pages(f"repos/{repository}/rulesets?includes_parents=true"):
        detail = ask(f"repos/{repository}/rulesets/{one['id']}")
        if detail["enforcement"] != "active":
            continue
        # What some may pass holds for the others only; that few may create a tag is meant so.
        held = [rule for rule in detail["rules"] if rule["type"] == "creation" or not detail.get("bypass_actors")]
        for pattern in detail["conditions"]["ref_name"]["include"]:
            pattern = {"~DEFAULT_BRANCH": "refs/heads/main", "~ALL": "*"}.get(pattern, pattern)
            key = f"{detail['target']} {pattern.removeprefix('refs/heads/').removeprefix('refs/tags/')}"
            active.setdefault(key, []).extend(held)
    for target, wanted in SETTINGS["rules"].items():
        there = active.get(target, []) + active.get(f"{target.split()[0]} *", [])
        missing += [f"{target} has no rule '{kind}'" for kind in wanted if kind not in {rule["type"] for rule in there}]
        approvals = [rule["parameters"].get("required_approving_review_count", 0) for rule in there if rule["type"] == "pull_request"]
        if approvals and max(approvals) < 1:
            missing.append(f"{target} takes a pull request that nobody approved")
        checks = [
            one["context"] for rule in there if rule["type"] == "required_status_checks" for one in rule["parameters"]["required_status_checks"]
        ]
        if "required_status_checks" in wanted and "gate" not in checks:
            missing.append(f"{target} does not require the check 'gate'")
    return missing


def everything(repository):
    found = {one["name"]: one["value"] for one in pages(f"repos/{repository}/actions/variables", "variables")}
    missing = [text for name in SETTINGS["variables"] for text in variable(name, found.get(name))]
    for name, wanted in SETTINGS["environments"].items():
        there = environment(repository, name)
        missing += there
        if there and "does not exist" in there[0]:
            continue
        secrets = {one["name"] for one in pages(f"repos/{repository}/environments/{name}/secrets", "secrets")}
        missing += [f"the environment {name} has no secret {secret}" for secret in wanted["secrets"] if secret not in secrets]
    known = {secret for wanted in SETTINGS["environments"].values() for secret in wanted["secrets"]}
    open_to_all = {one["name"] for one in pages(f"repos/{repository}/actions/secrets", "secrets")} & known
    missing += [f"the secret {secret} is open to every job: keep it in its environments alone" for secret in sorted(open_to_all)]
    if ask(f"repos/{repository}/actions/permissions/workflow")["default_workflow_permissions"] != "read":
        missing.append("a job that asks for no permissions may write: set the workflow permissions to read")
    return missing + rules(repository) + pins()


def pins():
    """Actions whose pinned commit their repository does not have."""
    text = "".join(path.read_text() for path in (TOP / ".github/workflows").glob("*.yml"))
    missing = []
    for action, commit in sorted(set(re.findall(r"uses: ([\w-]+/[\w-]+)\S*@([0-9a-f]{40})", text))):
        try:
            ask(f"repos/{action}/git/commits/{commit}")
        except Absent:
            missing.append(f"{action} has no commit {commit}")
    return missing


def main():
    parser = Parser(prog="./dev github-check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", choices=SETTINGS["environments"], help="check only this environment, with the token of a job")
    parser.add_argument(
        "--set", default=[], action="append", choices=SETTINGS["variables"], help="also require this variable in the process environment"
    )
    options = parser.parse_args()
    try:
        repository = os.environ.get("GITHUB_REPOSITORY") or ask("repos/{owner}/{repo}")["full_name"]
        missing = [text for name in options.set for text in variable(name, os.environ.get(name))]
        missing += place(repository, options.environment) if options.environment else []
        missing += environment(repository, options.environment) if options.environment else everything(repository)
    except FileNotFoundError:
        sys.exit("github-check: gh is missing: install the GitHub CLI, then 'gh auth login'")
    except Absent as absent:
        sys.exit(f"github-check: GitHub has no {absent}, or not for this token: run it as an administrator of the repository")
    if missing:
        sys.exit("".join(f"github-check: {text}: {WAY}\n" for text in missing).rstrip())
    print(f"{repository}: {options.environment or 'everything'} is as the workflows need it")


main()
