"""Terraform runs as the role that it makes for the workflow: every call is one that the role is granted, and it is granted no role but ours."""

import json

import botocore.exceptions
import pytest

import cloud

# Asked for only by changes that no test makes: another description or session length of a role, a trust, a thumbprint, a tag later on.
CHANGES = {"iam:UpdateRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateOpenIDConnectProviderThumbprint", "iam:TagOpenIDConnectProvider"}
CHANGES |= {"iam:TagRole", "iam:TagInstanceProfile"}
# Asked for by the removal of a root, which comes last: test_undo.
REMOVAL = {"iam:DeleteInstanceProfile", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy", "iam:RemoveRoleFromInstanceProfile"}
REMOVAL |= {"iam:ListInstanceProfilesForRole"}
# Only the global root attaches policies, by an administrator's first apply.
FIRST = {"iam:AttachRolePolicy"}


def granted(applied):
    """The actions on roles that the role's own policy has."""
    policy = applied.emulator.client("iam", "us-east-1").get_role_policy(RoleName="dob-api-workflow-infra", PolicyName="infra")
    return {action for one in policy["PolicyDocument"]["Statement"] for action in one["Action"] if action.startswith("iam:")}


@pytest.fixture(scope="module")
def used(plans, applied, full_plan):
    return applied.emulator.used("infra")


def test_regions_are_made_changed_and_looked_at_by_the_role_of_the_workflow_alone(used, applied):
    assert not applied.emulator.used("infra", "refused to")
    services = {action.partition(":")[0] for action, _ in used}
    assert services >= {"ec2", "elasticloadbalancing", "autoscaling", "route53", "acm", "s3", "kms", "logs", "sns", "cloudwatch", "iam", "ecr"}
    assert len(used) > 150


def test_what_the_role_is_granted_of_roles_is_what_terraform_asks_for(used, applied):
    asked = {action for action, _ in used if action.startswith("iam:")}
    assert asked | CHANGES | REMOVAL | FIRST == granted(applied)
    assert not asked & (CHANGES | REMOVAL | FIRST), "what is asked for is no exception"


def test_the_role_makes_and_hands_on_no_role_but_ours(applied, used):
    assert {about.rpartition("/")[2].partition("-a-")[0].partition("-b-")[0] for action, about in used if action == "iam:PassRole"} == {"dob-api"}
    iam = applied.emulator.client("iam", "us-east-1", "infra")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    attempts = [
        lambda: iam.create_role(RoleName="administrators", AssumeRolePolicyDocument=trust),
        lambda: iam.put_role_policy(RoleName="OrganizationAccountAccessRole", PolicyName="more", PolicyDocument=trust),
        lambda: iam.create_user(UserName="dob-api-user"),
        lambda: iam.delete_open_id_connect_provider(OpenIDConnectProviderArn="arn:aws:iam::123456789012:oidc-provider/elsewhere"),
    ]
    for attempt in attempts:
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            attempt()
    profile = {"ImageId": cloud.DEBIAN, "MinCount": 1, "MaxCount": 1, "IamInstanceProfile": {"Name": "administrators"}}
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied|iam:PassRole"):
        applied.emulator.client("ec2", "eu-west-1", "infra").run_instances(**profile)
