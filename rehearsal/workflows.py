"""The workflow files: what each job may do, and what GitHub takes as wrong before it runs one."""

import pathlib
import re
import tomllib

import yaml

TOP = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted((TOP / ".github/workflows").glob("*.yml"))
PINS = tomllib.loads((TOP / "rehearsal/pins.toml").read_text())
SETTINGS = tomllib.loads((TOP / ".github/settings.toml").read_text())


def workflow(path):
    found = yaml.safe_load(path.read_text())
    # YAML 1.1 takes `on` for true.
    return found | {"on": found.pop(True, found.get("on"))}


def jobs():
    """Yields the path, the name and the content of every job."""
    for path in FILES:
        for name, job in workflow(path)["jobs"].items():
            yield path, name, job


def takers():
    """Yields each job that takes a role of the cloud, as it asks for its token, and the role."""
    for path, name, job in jobs():
        for step in job["steps"]:
            if role := step.get("with", {}).get("role-to-assume"):
                event = "pull_request" if role.endswith("-plan") else "workflow_dispatch"
                yield {"workflow": workflow(path)["name"], "job": name, "event": event, "ref": "refs/heads/main"}, role.rpartition("-workflow-")[2]


def given(files=FILES):
    """What each job of each workflow gets: its permissions and its environment."""
    return {
        found["name"]: {
            name: {"permissions": job.get("permissions", found["permissions"]), "environment": job.get("environment")}
            for name, job in found["jobs"].items()
        }
        for found in map(workflow, files)
    }


def startable(files=FILES):
    """Each workflow with the inputs of a start by hand, and whether they must be given; none where it is not started so."""
    for number, path in enumerate(files, 1):
        found = workflow(path)
        events = found["on"] if isinstance(found["on"], dict) else dict.fromkeys([found["on"]] if isinstance(found["on"], str) else found["on"])
        inputs = {name: one.get("required", False) for name, one in ((events.get("workflow_dispatch") or {}).get("inputs") or {}).items()}
        yield {
            "id": number,
            "name": found["name"],
            "path": f".github/workflows/{path.name}",
            "inputs": inputs if "workflow_dispatch" in events else None,
        }


# What a step needs that its token must have: an action by its name, a command by its start.
NEEDS = {
    "actions/checkout": {"contents": "read"},
    "actions/attest": {"id-token": "write", "attestations": "write"},
    "aws-actions/configure-aws-credentials": {"id-token": "write"},
    "./dev github-check": {"actions": "read"},
    ".github/plan-comment": {"pull-requests": "write"},
    "packaging/push": {"packages": "write"},
    "packaging/release": {"contents": "write"},
    "gh workflow run": {"actions": "write"},
}
LEVELS = {None: 0, "none": 0, "read": 1, "write": 2}


def needed(step):
    if "uses" in step:
        return NEEDS.get(step["uses"].partition("@")[0], {})
    start = next((start for start in NEEDS if re.match(rf"{re.escape(start)}(?![\w-])", step["run"])), None)
    return NEEDS.get(start, {})


def lacking(job):
    """Permissions that a step of the job needs and the job does not grant."""
    granted = job.get("permissions", {})
    for step in job["steps"]:
        for scope, level in needed(step).items():
            if LEVELS[granted.get(scope)] < LEVELS[level]:
                yield f"{step.get('uses', step.get('run'))} needs {scope}: {level}"


def unused(job):
    """Permissions that the job grants and no step of it needs."""
    wanted = [needed(step) for step in job["steps"]]
    for scope, level in (job.get("permissions") or {}).items():
        if not any(LEVELS[one.get(scope)] == LEVELS[level] for one in wanted):
            yield f"{scope}: {level}"


def inputs(action):
    """The inputs of an action, as its stand-in documents them: those that there are, and those that must be given."""
    found = yaml.safe_load((TOP / "rehearsal/actions" / action / "action.yml").read_text()).get("inputs", {})
    return set(found), {name for name, one in found.items() if one.get("required")}


def secrets(job):
    return set(re.findall(r"secrets\.(\w+)", yaml.safe_dump(job)))


def variables(text):
    return set(re.findall(r"vars\.(\w+)", text))
