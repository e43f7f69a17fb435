"""The first apply of a region, by the workflow and as its role: in an account in which only the first two roots stand.

Run by 'rehearsal/tests/run long_region.py'; it takes some minutes, and a host of its own.
"""

import json

import pytest

from rehearsal import story
from rehearsal.regions import REGIONS, Account
from shared import green


@pytest.fixture(scope="module")
def account(place):
    return Account(place).make(regions={})


def test_a_region_is_applied_by_the_role_that_terraform_made_for_it(place, account):
    ended = story.apply(place, "primary")
    green(ended)
    assert "Apply complete!" in ended.said
    (group,) = account.client("autoscaling", REGIONS["a"]).describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group["AutoScalingGroupName"] == "dob-api-a" and account.states("a") == {"running"}


def test_its_role_was_refused_nothing_and_is_refused_a_role_that_is_not_ours(account):
    calls = [call for call in account.calls() if call[0] == "dob-api-workflow-infra"]
    assert len(calls) > 50 and [call for call in calls if call[3] == "denied"] == []
    policies = account.client("iam").get_role_policy(RoleName="dob-api-workflow-infra", PolicyName="infra")["PolicyDocument"]
    granted = [one["Resource"] for one in policies["Statement"] if "iam:CreateRole" in one["Action"]]
    assert json.dumps(granted).count("dob-api-*") == 2
