"""Lets the emulator hold each request of a workflow's role against the policies that Terraform wrote for it.

An access key that is the name of a workflow is its role's; any other is an administrator's. Actions and resources are looked at as
the role's documents have them, those of the cloud's own policies that are attached to it among them; of conditions only the region.
It prints what each role asks for, to be read by tests.
"""

import fnmatch
import json
import re
import sys

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import AccessDeniedError
from moto.iam.models import iam_backends

PREFIX = "dob-api-workflow-"
# What a call asks for beside itself: the right to hand a role on, by the parameter that names it.
HANDED_ON = {
    "ec2:RunInstances": "IamInstanceProfile.Name",
    "ec2:CreateFlowLogs": "DeliverLogsPermissionArn",
    "iam:AddRoleToInstanceProfile": "RoleName",
}
# Where a service signs by another name than its actions have.
NAMES = {"monitoring": "cloudwatch"}
# How the cloud calls what the emulator names otherwise.
S3 = {"ListObjects": "ListBucket", "ListObjectsV2": "ListBucket", "HeadBucket": "ListBucket", "HeadObject": "GetObject"}


def listed(given):
    return [given] if isinstance(given, str) else given


def matches(patterns, name):
    return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in listed(patterns))


def documents(role):
    """The policies of a role: its own, and those of the cloud that are attached to it."""
    iam = iam_backends[ACCOUNT]["aws"]
    own = [iam.get_role_policy(role, name)[1] for name in iam.list_role_policies(role)]
    attached, _ = iam.list_attached_role_policies(role)
    versions = [next(version for version in policy.versions if version.is_default) for policy in attached]
    return [json.loads(text) for text in (*own, *(version.document for version in versions))]


def applies(statement, action, resource, region):
    """Whether a statement speaks of a request."""
    named = matches(statement["Action"], action) if "Action" in statement else not matches(statement["NotAction"], action)
    if "Resource" in statement:
        meant = resource == "*" or matches(statement["Resource"], resource)
    else:
        meant = resource == "*" or not matches(statement["NotResource"], resource)
    regions = statement.get("Condition", {}).get("StringEquals", {}).get("aws:RequestedRegion")
    return named and meant and (regions is None or region in listed(regions))


def allows(role, action, resource, region):
    """As the cloud decides: an explicit refusal wins, and what nothing allows is refused."""
    found = [one["Effect"] for policy in documents(role) for one in listed_statements(policy) if applies(one, action, resource, region)]
    return "Allow" in found and "Deny" not in found


def listed_statements(policy):
    statements = policy["Statement"]
    return [statements] if isinstance(statements, dict) else statements


def resource_of(response, service, given):
    """What a request is about, where its service is one whose resources our policies name."""
    if service == "iam":
        for parameter, kind in (("InstanceProfileName", "instance-profile"), ("RoleName", "role")):
            if name := response._get_param(parameter):
                return f"arn:aws:iam::{ACCOUNT}:{kind}/{name}"
        return response._get_param("OpenIDConnectProviderArn") or response._get_param("PolicyArn") or "*"
    return given


def check(response, _, resource="*"):
    """In the place of the emulator's own check, which every request passes."""
    found = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", response.headers.get("Authorization", ""))
    iam = iam_backends[ACCOUNT]["aws"]
    if not found or f"{PREFIX}{found[1]}" not in {role.name for role in iam.roles.values()}:
        return
    role, region, service = found[1], found[2], found[3]
    name = (response.data.get("Action") if service == "s3" else None) or response._get_action()
    action = f"{NAMES.get(service, service)}:{S3.get(name, name)}"
    asked = [(action, resource_of(response, service, resource))]
    if handed := HANDED_ON.get(action):
        value = response._get_param(handed)
        asked += [("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{value.rpartition('/')[2]}")] if value else []
    for wanted, about in asked:
        sys.stderr.write(f"used by {role}: {wanted} {about}\n")  # one write, which no other line gets into
        if not allows(f"{PREFIX}{role}", wanted, about, region):
            sys.stderr.write(f"refused to {role}: {wanted} {about}\n")
            raise AccessDeniedError(user_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/{PREFIX}{role}/test", action=wanted)


def enforce():
    ActionAuthenticatorMixin._authenticate_and_authorize_action = check
