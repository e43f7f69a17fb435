"""Terraform writes versions of the launch template, and roll-outs bring them to the hosts: each finds what the other did."""

import base64

import pytest

import emulator
from conftest import script
from test_roll_out import GROUP, group  # noqa: F401 the fixture is this module's too


def url(hosts):
    return {"UserData": base64.b64encode(f"DATABASE_URL=postgres://dob@{hosts}/dob".encode()).decode()}


def test_a_change_of_terraform_reaches_every_host_by_the_next_roll_out(group):  # noqa: F811
    group.terraform(InstanceType="t3.small", **url("10.0.1.11,10.0.1.14"))
    new = group.image("1.1.0")
    said = script("roll-out", "1.1.0").stderr
    assert group.running() == [new] * 4 and {host["InstanceType"] for host in group.hosts()} == {"t3.small"}
    assert group.versions()[group.version()] == {**group.versions()["2"], "ImageId": new}
    assert "Terraform changed what hosts are" in said


def test_the_image_that_runs_brings_a_change_too(group):  # noqa: F811
    group.terraform(InstanceType="t3.small")
    said = script("roll-out", group.old).stderr
    assert group.version() == "2" and {host["InstanceType"] for host in group.hosts()} == {"t3.small"}
    assert "already: only hosts that do not" not in said
    assert set(group.versions()) == {"1", "2"}, "what Terraform wrote has this image already, and is taken as it is"


def test_terraform_and_roll_outs_alternate(group):  # noqa: F811
    """Settings go back to what they were before, after an image came between: what Terraform wrote last counts, not what looks new."""
    types = ["t3.small", "t3.micro", "t3.medium", "t3.micro"]
    for number, kind in enumerate(types, 1):
        group.terraform(InstanceType=kind)
        if number % 2:
            group.image(f"1.{number}.0")
            script("roll-out", f"1.{number}.0")
        else:
            script("roll-out", f"1.{number - 1}.0")
        assert {host["InstanceType"] for host in group.hosts()} == {kind}
        assert group.versions()[group.version()]["InstanceType"] == kind
    before = set(group.versions())
    script("roll-out", "1.3.0")
    assert set(group.versions()) == before, "no version is made for what runs already"


def test_an_older_image_comes_back_with_the_newest_settings(group):  # noqa: F811
    group.image("1.1.0")
    script("roll-out", "1.1.0")
    group.terraform(**url("10.0.1.11,10.0.1.14"))
    script("roll-out", group.old)
    assert group.running() == [group.old] * 4
    assert group.versions()[group.version()]["UserData"] == url("10.0.1.11,10.0.1.14")["UserData"]


def test_new_secrets_reach_every_host_by_a_flag(group):  # noqa: F811
    before = {host["InstanceId"] for host in group.hosts()}
    script("roll-out", group.old)
    assert {host["InstanceId"] for host in group.hosts()} == before, "hosts that match are left alone"
    script("roll-out", "--all")
    after = {host["InstanceId"] for host in group.hosts()}
    assert len(after) == 4 and not after & before and group.running() == [group.old] * 4
    assert emulator.calls[-1]["preferences"]["SkipMatching"] is False


@pytest.mark.parametrize(("kind", "architecture"), [("t3.small", "x86_64"), ("t4g.small", "arm64")])
def test_of_a_versions_images_the_one_for_the_hosts_is_taken(group, kind, architecture):  # noqa: F811
    images = {one: group.image("1.1.0", one) for one in ("x86_64", "arm64")}
    group.terraform(InstanceType=kind)
    script("roll-out", "1.1.0", "--region", "a")
    assert group.running() == [images[architecture]] * 4


def test_an_image_for_other_processors_is_refused(group):  # noqa: F811
    other = group.image("1.1.0", "arm64")
    for wanted in (other, "1.1.0"):
        said = script("roll-out", wanted, status=1).stderr
        assert f"the hosts of {GROUP} are x86_64, and of {wanted} there is only {other} (arm64)" in said, said
    assert not emulator.calls and set(group.versions()) == {"1"}


@pytest.mark.parametrize("way", ["--follow", "--cancel", "--rollback"])
def test_what_contradicts_itself_is_refused(group, way):  # noqa: F811
    assert "--all starts a roll-out" in script("roll-out", "--all", way, status=64).stderr
    assert "name an image" in script("roll-out", status=64).stderr
