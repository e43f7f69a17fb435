"""Publishing and rolling out, each as its own role: what Terraform grants it is what it calls, in both directions."""

import json
import re

import pytest

import emulator
from ami.publish import Image
from conftest import script
from lab.hosts import permissions
from test_publish import disk  # noqa: F401 the fixtures are this module's too
from test_roll_out import GROUP, group, interrupted  # noqa: F401
from test_updates import groups  # noqa: F401

# What the role is granted for other programs of its workflow.
OTHERS = {
    "release": {
        *("s3:GetObject", "s3:PutObject", "s3:ListBucket"),  # aws s3 sync, of the apt repository
        *("ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload"),  # skopeo
        *("ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"),
    },
    "updates": {"s3:GetObject", "s3:ListBucket"},
    "deploy": set(),
}


def used(role):
    """The actions that the role's calls asked for so far."""
    beside = set().union(*(permissions.BESIDE.get(action, set()) for action in permissions.recorded[role]))
    return permissions.recorded[role] | {action.partition(" by ")[0] for action in beside}


@pytest.mark.usefixtures("group")
def test_publishing_uses_all_that_its_role_is_granted(disk):  # noqa: F811
    permissions.recorded["release"].clear()
    for version in ("1.0.0", "1.1.0"):
        script("publish", disk(version, blocks=2), "--keep", "1", "--share", "210987654321")
    assert used("release") | OTHERS["release"] == permissions.granted("release")


def test_a_snapshot_gets_the_tags_that_its_grant_names(disk):  # noqa: F811
    file = disk("1.0.0", blocks=1)
    file.with_suffix(".manifest").write_text("openssl 1\n")
    image = Image(file)
    image.number(1)
    named = json.loads(re.search(r'"aws:TagKeys"\s+values\s+= (\[.*\])', permissions.TEXT)[1])
    assert sorted(tag["Key"] for tag in image.tags) == named


def test_the_updates_of_a_night_use_all_that_their_role_is_granted(groups, disk, monkeypatch):  # noqa: F811
    monkeypatch.setattr("conftest.ROLES", {"publish": "updates", "updates": "updates"})
    permissions.recorded["updates"].clear()
    for version in ("1.0.0", "1.1.0"):
        script("publish", disk(version, blocks=2), "--keep", "1", "--share", "210987654321")
    script("updates")
    assert used("updates") | OTHERS["updates"] == permissions.granted("updates")


@pytest.mark.usefixtures("interrupted")
def test_rolling_out_uses_all_that_its_role_is_granted(group):  # noqa: F811
    permissions.recorded["deploy"].clear()
    script("roll-out", "--rollback")
    desired = {"LaunchTemplate": {"LaunchTemplateId": group.template, "Version": "2"}}
    group.scaling.start_instance_refresh(AutoScalingGroupName=GROUP, DesiredConfiguration=desired)
    script("roll-out", "--cancel")
    group.image("1.2.0-broken")
    script("roll-out", "1.2.0-broken", status=1)
    assert used("deploy") | OTHERS["deploy"] == permissions.granted("deploy")


def test_a_role_is_refused_what_it_is_not_granted(group, monkeypatch):  # noqa: F811
    monkeypatch.setattr("conftest.ROLES", {"roll-out": "drill"})
    said = script("roll-out", group.old, status=1).stderr
    assert "drill" in said and "not authorized to perform" in said and not emulator.calls
