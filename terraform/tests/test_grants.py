"""What the roles of the workflows are granted, held against AWS's own list of actions, resources and conditions."""

import fnmatch
import re

import pytest
from policy_sentry.querying.actions import get_action_data

import cloud
from lab.hosts import permissions

ALL = [(role, one) for role in permissions.ROLES for one in permissions.statements(role)]
# Keys that every request has, whatever its action.
GLOBAL = {"aws:RequestedRegion", "aws:PrincipalAccount", "aws:SourceAccount"}
# Documented by AWS on the pages of the services, and missing in the list.
BESIDE_THE_LIST = {
    "ec2:CreateTags": {"ec2:CreateAction"},
    "ec2-instance-connect:OpenTunnel": {"ec2-instance-connect:remotePort"},
    "kms:CreateGrant": {"kms:GrantIsForAWSResource"},
    **{f"kms:{name}": {"kms:ViaService"} for name in ("Decrypt", "DescribeKey", "Encrypt", "GenerateDataKeyWithoutPlaintext")},
    **{f"kms:{name}": {"kms:ViaService"} for name in ("ReEncryptFrom", "ReEncryptTo")},
}


def described(action):
    """The rows of AWS's list for an action: one for each kind of resource."""
    service, name = action.split(":")
    found = get_action_data(service, name)
    assert found, f"AWS has no action {action}"
    return [row for row in found[service] if row["action"] == action]


def named(row):
    """The condition keys of a row, without the part that a policy fills in."""
    return {re.sub(r"\$\{\w+\}$", "", key) for key in row["condition_keys"]}


@pytest.mark.parametrize("role", permissions.ROLES)
def test_every_granted_action_is_one_of_aws(role):
    actions = permissions.granted(role)
    assert actions and all(described(action) for action in actions)


@pytest.mark.parametrize(("role", "statement"), ALL)
def test_a_condition_is_one_that_each_of_its_actions_knows(role, statement):
    """Any other never holds, and what it guards is refused to the role."""
    for action in statement.actions:
        known = set().union(*(named(row) for row in described(action))) | GLOBAL | BESIDE_THE_LIST.get(action, set())
        for key in statement.keys:
            prefix = re.sub(r"(?<=Tag/).*", "", key)
            assert key in known or prefix in known, f"{role}: {action} knows no {key}"


@pytest.mark.parametrize(("role", "statement"), ALL)
def test_an_action_that_knows_no_resource_is_granted_for_all(role, statement):
    """A statement that names resources grants nothing of an action that has none."""
    for action in statement.actions:
        kinds = {row["resource_arn_format"] for row in described(action)}
        assert statement.everywhere or kinds != {"*"}, f"{role}: {action} knows no resource, and is granted for some"


@pytest.mark.parametrize("role", permissions.ROLES)
def test_what_a_call_asks_for_beside_its_own_action_is_granted(role):
    """By AWS's list of dependent actions, and by what is documented elsewhere: permissions.BESIDE."""
    for action in permissions.granted(role) - {"ec2:CreateTags"}:
        assert not permissions.lacking(role, action), f"{role}: {action} lacks {permissions.lacking(role, action)}"
        dependent = {one for row in described(action) for one in row["dependent_actions"]}
        # A launch template may name parameters, roles and images by reference: ours names none.
        for one in dependent - {"ssm:GetParameters", "iam:PassRole"}:
            creator = f"{one} by {action.split(':')[1]}" if one == "ec2:CreateTags" else one
            assert permissions.allows(role, creator), f"{role}: {action} depends on {creator}"


def test_tags_are_granted_to_their_creation_alone():
    """The EBS direct API names no creation: there, what has our tag already cannot be tagged again."""
    snapshots = {"aws:RequestTag/Project", "aws:ResourceTag/Project", "aws:TagKeys"}
    for role in permissions.ROLES:
        for one in permissions.statements(role):
            if "ec2:CreateTags" in one.actions:
                assert one.actions == {"ec2:CreateTags"}, (role, one.text)
                assert "ec2:CreateAction" in one.keys or one.keys == snapshots, (role, one.text)


@pytest.fixture(scope="module")
def policies(applied):
    """The policy of each workflow's role, as Terraform rendered it."""
    iam = applied.emulator.client("iam", "us-east-1")
    return {
        role: iam.get_role_policy(RoleName=f"dob-api-workflow-{role}", PolicyName=role)["PolicyDocument"]["Statement"] for role in permissions.ROLES
    }


def listed(value):
    return value if isinstance(value, list) else [value]


def of(policies, role, action):
    return [one for one in policies[role] if one["Effect"] == "Allow" and action in listed(one["Action"])]


def test_the_release_tags_images_and_snapshots_and_nothing_else(policies):
    """By a name an instance would be taken for a database host, and by no name a primary would escape its fence."""
    for one in of(policies, "release", "ec2:CreateTags"):
        assert all(re.fullmatch(r"arn:aws:ec2:[\w-]+::(image|snapshot)/\*", arn) for arn in listed(one["Resource"]))
        assert "ec2:CreateAction" in one["Condition"]["StringEquals"] or one["Condition"]["Null"] == {"aws:ResourceTag/Project": "true"}


def test_no_role_of_a_workflow_takes_tags_away_or_tags_an_instance_as_a_database_host(policies):
    for role in permissions.ROLES:
        assert not of(policies, role, "ec2:DeleteTags")
        for one in of(policies, role, "ec2:CreateTags"):
            if any("::image" not in arn and "::snapshot" not in arn for arn in listed(one["Resource"])):
                assert one["Condition"]["StringEquals"] == {"ec2:CreateAction": "RunInstances", "aws:RequestTag/Role": "service"}, role


def test_a_deploy_launches_and_changes_the_template_of_the_service_hosts_alone(policies):
    tags = {"aws:ResourceTag/Project": "dob-api", "aws:ResourceTag/Role": "service"}
    (version,) = of(policies, "deploy", "ec2:CreateLaunchTemplateVersion")
    assert version["Condition"] == {"StringEquals": tags}
    template, rest = sorted(of(policies, "deploy", "ec2:RunInstances"), key=lambda one: "ArnLike" in one["Condition"])
    assert template["Condition"] == {"StringEquals": tags}
    assert set(listed(template["Resource"])) == set(listed(rest["Condition"]["ArnLike"]["ec2:LaunchTemplate"]))
    assert not [arn for arn in rest["Resource"] if fnmatch.fnmatchcase(f"arn:aws:ec2:{cloud.REGIONS['a']}:123456789012:launch-template/lt-1", arn)]
    assert all(re.fullmatch(r"arn:aws:ec2:[\w-]+:\d{12}:launch-template/\*", arn) for arn in template["Resource"])


def test_the_launch_template_has_the_tags_that_the_deploy_is_bound_to(plans):
    for root in ("primary", "failover"):
        (template,) = [one for one in cloud.resources(plans[root]["planned_values"]["root_module"]) if one["type"] == "aws_launch_template"]
        assert {"Project": "dob-api", "Role": "service"}.items() <= template["values"]["tags_all"].items()


def test_a_role_that_is_not_granted_an_action_is_refused_it():
    """The stand-in itself: what it lets through proves something only if it refuses the rest."""
    assert permissions.lacking("deploy", "ec2:TerminateInstances") == ["ec2:TerminateInstances"]
    assert permissions.lacking("drill", "ec2:StartInstances") == ["ec2:StartInstances", "kms:CreateGrant"]
    assert not permissions.allows("deploy", "ec2:CreateTags") and permissions.allows("deploy", "ec2:CreateTags by RunInstances")
    assert not permissions.allows("deploy", "ec2:CreateTags by RegisterImage")


def test_the_flow_logs_and_the_balancer_have_what_the_documentation_asks_for():
    """By the text of the region: its own roles run no program of ours."""
    region = {name: (permissions.TOP / f"terraform/modules/region/{name}.tf").read_text() for name in ("identity", "buckets")}
    flow = re.search(r'"write_flow_logs" \{(.*?)^\}', region["identity"], re.M | re.S)[1]
    assert set(re.findall(r'"(logs:\w+)"', flow)) == {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "logs:DescribeLogGroups",
        "logs:DescribeLogStreams",
    }
    logs = re.search(r'"write_logs" \{(.*?)^\}', region["buckets"], re.M | re.S)[1]
    assert "logdelivery.elasticloadbalancing.amazonaws.com" in logs and "data.aws_elb_service_account.this.arn" in logs
    assert logs.count("s3:PutObject") == 2
