"""Which version runs, and whether a newer build of it waits, as the workflow of security updates asks."""

import pytest

from conftest import FIRST, script
from test_roll_out import Group

SECOND = "eu-central-1"


@pytest.fixture
def groups(aws):
    return [Group(lambda service, region=region: aws(service, region)) for region in (FIRST, SECOND)]


def looked(status=0):
    return script("updates", status=status)


@pytest.mark.parametrize("behind", [(), (0,), (1,), (0, 1)])
def test_a_newer_build_of_what_runs_waits_until_both_regions_run_it(groups, behind):
    for number in behind:
        groups[number].image("1.0.0", serial=2)
        groups[number].image("1.0.0", architecture="arm64", serial=3)
    # A version that nobody deployed is nothing to roll out.
    groups[0].image("1.1.0")
    assert looked().stdout == f"version=1.0.0\ntag=v1.0.0\nwaiting={'true' if behind else 'false'}\n"


def test_a_candidate_is_built_from_its_tag(groups):
    for region, group in zip("ab", groups, strict=True):
        group.image("1.1.0~rc1")
        script("roll-out", "1.1.0~rc1", "--region", region)
    assert looked().stdout == "version=1.1.0~rc1\ntag=v1.1.0-rc1\nwaiting=false\n"


def test_regions_that_run_different_versions_are_one_sentence(groups):
    groups[1].image("1.1.0")
    script("roll-out", "1.1.0", "--region", "b")
    said = looked(status=1)
    assert said.stdout == "" and "1.0.0 in eu-west-1, 1.1.0 in eu-central-1" in said.stderr and said.stderr.count("\n") == 1


def test_hosts_of_an_image_that_was_not_published_are_one_sentence(groups):
    groups[0].ec2.delete_tags(Resources=[groups[0].old], Tags=[{"Key": "Version"}])
    said = looked(status=1)
    assert said.stdout == "" and f"run {groups[0].old}, which 'ami/publish' did not publish" in said.stderr and said.stderr.count("\n") == 1
