"""The story in its order: each part runs a workflow file and returns how it ended."""

from rehearsal import act
from rehearsal.place import REPOSITORY


def change(place):
    """A pull request: every suite, the packages and the gate."""
    return act.run(place, "ci", "pull_request", ref="refs/pull/7/merge", payload={"pull_request": {"number": 7}})


def plan(place, of=REPOSITORY):
    """A push to a pull request whose branch is in a repository: ours, or a fork."""
    asked = {"pull_request": {"number": 7, "head": {"repo": {"full_name": of}}}, "action": "synchronize"}
    return act.run(place, "infra", "pull_request", ref="refs/pull/7/merge", payload=asked)


def apply(place, root="global"):
    return act.run(place, "infra", "workflow_dispatch", inputs={"root": root})


def release(place, tag=None, **options):
    tag = tag or f"v{place.version}"
    place.settings["tags"].append(tag)
    place.save_settings()
    return act.run(place, "release", "push", ref=f"refs/tags/{tag}", **options)


def refresh(place, **options):
    return act.run(place, "apt-refresh", "schedule", **options)


def deploy(place, version=None, **options):
    return act.run(place, "deploy", "workflow_dispatch", inputs={"image": version or place.version}, **options)


def updates(place, **options):
    return act.run(place, "updates", "schedule", **options)


def drill(place, **options):
    return act.run(place, "restore-drill", "schedule", **options)


def database(place, **options):
    return act.run(place, "database", "workflow_dispatch", **options)


def failover(place, region="b", override="", **options):
    inputs = {"region": region, "override": override, "confirmation": f"promote {region}"}
    return act.run(place, "failover", "workflow_dispatch", inputs=inputs, **options)


def failback(place, region="a", **options):
    return act.run(place, "failback", "workflow_dispatch", inputs={"region": region, "confirmation": f"move to {region}"}, **options)
