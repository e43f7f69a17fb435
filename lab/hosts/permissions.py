"""What Terraform grants each workflow's role, and an emulated cloud that refuses everything else.

A program's access key is the name of its role here; any other key is an administrator's. Refused is what no statement
of the role grants: the call itself, and what AWS asks for beside it. Resources and most conditions are not looked at.
"""

import fnmatch
import re

from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import AccessDeniedError

from tools import TOP

TEXT = (TOP / "terraform/global/permissions.tf").read_text()
ROLES = ("release", "updates", "deploy", "drill", "database")
# What AWS requires besides a call's own action: tags at creation need the name of the call, and an encrypted volume needs its key.
BESIDE = {
    "autoscaling:StartInstanceRefresh": {"ec2:RunInstances", "ec2:CreateTags by RunInstances", "iam:PassRole"},
    "ebs:StartSnapshot": {"ec2:CreateTags", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"},
    "ec2:CopyImage": {"ec2:CreateTags by CopyImage", "kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey"},
    "ec2:RegisterImage": {"ec2:CreateTags by RegisterImage"},
    "ec2:StartInstances": {"kms:CreateGrant"},
    "ssm:GetParameter": {"kms:Decrypt"},
    "ssm:PutParameter": {"kms:Encrypt"},
}
# Services whose signing name differs from that of their actions.
NAMES = {"monitoring": "cloudwatch"}
recorded = {role: set() for role in ROLES}


class Statement:
    """A statement that allows: its actions, and the values of its conditions by their keys."""

    def __init__(self, text):
        self.text = text
        self.actions = set(re.findall(r'"([^"]+)"', re.search(r"^    actions\s+= \[(.*?)\]", text, re.M | re.S)[1]))
        conditions = re.findall(r'variable = "([^"]+)"\s+values\s+= (.*)', text)
        self.conditions = {key: re.findall(r'"([^"]+)"', values) for key, values in conditions}
        self.keys = {*self.conditions, *(["aws:RequestedRegion"] if "local.in_both_regions.variable" in text else [])}
        self.everywhere = bool(re.search(r'^    resources = \["\*"\]$', text, re.M))


def statements(role):
    """The statements of a role's policy, those of a policy that it includes among them."""
    block = re.search(rf'^data "aws_iam_policy_document" "{role}" \{{(.*?)^\}}', TEXT, re.M | re.S)[1]
    found = [Statement(text) for text in re.findall(r"^  statement \{(.*?)^  \}", block, re.M | re.S) if "Deny" not in text]
    for other in re.findall(r"source_policy_documents = \[data\.aws_iam_policy_document\.(\w+)\.json\]", block):
        found += statements(other)
    return found


def granted(role):
    return set().union(*(one.actions for one in statements(role)))


def allows(role, action):
    """Whether a role may perform an action, or set a tag `by` the call that creates the resource."""
    name, _, creator = action.partition(" by ")
    return any(
        any(fnmatch.fnmatchcase(name, pattern) for pattern in one.actions)
        and (not creator or creator in one.conditions.get("ec2:CreateAction", [creator]))
        and (creator or "ec2:CreateAction" not in one.conditions)
        for one in statements(role)
    )


def lacking(role, action):
    """The permissions that a call needs and the role lacks."""
    return sorted(wanted for wanted in {action, *BESIDE.get(action, ())} if not allows(role, wanted))


def caller(headers):
    """The role, the service and the region that a request is signed with."""
    found = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", headers.get("Authorization", ""))
    return (found[1], found[3], found[2]) if found else ("", "", "")


def check(response, *_, **__):
    """Replaces moto's check, which every request passes."""
    role, service, _ = caller(response.headers)
    if role not in ROLES:
        return
    action = f"{NAMES.get(service, service)}:{response._get_action()}"
    recorded[role].add(action)
    if missing := lacking(role, action):
        raise AccessDeniedError(user_arn=f"role {role}, which lacks {', '.join(missing)},", action=action)


def enforce():
    """Makes every emulated cloud of this process check permissions from now on."""
    ActionAuthenticatorMixin._authenticate_and_authorize_action = check
