"""From an empty account to a greeting by the README's own text, and what an account goes through then: one walk, each as its role.

To the point where the cloud itself would boot hosts: the emulator launches them, and nothing runs on them.
"""

import base64
import json

import botocore.exceptions
import pytest

import cloud
from roles import listed
from test_undo import left
from way import ELSEWHERE, STEPS, Way, typed

# It takes a quarter of an hour.
pytestmark = pytest.mark.long
ROOTS = {"a": ("primary", "eu-west-1"), "b": ("failover", "eu-central-1")}


@pytest.fixture(scope="module")
def way(tmp_path_factory):
    made = Way(tmp_path_factory.mktemp("way"))
    try:
        yield made.walk()
    finally:
        made.close()


def hosts(way, region, role):
    """The hosts of a role that run."""
    filters = {"tag:Role": role, "instance-state-name": "running"}
    found = way.emulator.client("ec2", region).describe_instances(Filters=[{"Name": key, "Values": [value]} for key, value in filters.items()])
    return [host for group in found["Reservations"] for host in group["Instances"]]


def test_every_command_of_the_way_was_run_or_is_shown_elsewhere(way):
    commands = [text for step in STEPS for text in typed(step) if text.split()[0] in ("./dev", "ssh-keygen", "openssl", "aws", "dig", "curl")]
    unseen = [text for text in commands if text not in way.done and not text.startswith("./dev infra check")]
    # The account's check runs where there are settings to check.
    assert unseen == [] and len(commands) > 15 and any(text.startswith("./dev infra check") for text in way.done)
    assert {text for text in way.done if any(text.startswith(command) for command in ELSEWHERE)} <= set(commands)


def test_it_ends_with_service_hosts_of_the_published_image_in_both_regions_and_nothing_was_refused(way):
    for root, region in ROOTS.values():
        assert len(hosts(way, region, "database")) == 3 and len(hosts(way, region, "monitoring")) == 1
        group = way.group(region)
        assert group["MinSize"] == 2 and "nat" not in way.settings(root).read_text()
        version = way.emulator.client("ec2", region).describe_launch_template_versions(
            LaunchTemplateId=group["LaunchTemplate"]["LaunchTemplateId"], Versions=["1"]
        )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        assert version["ImageId"] == way.images[region]
        assert f"DOB_API_MONITOR={'a' if region == 'eu-west-1' else 'b'}-monitor/" in base64.b64decode(version["UserData"]).decode()
    for role in ("infra", "database", "release"):
        assert way.emulator.used(role) and not way.emulator.used(role, "refused to")


def test_rotated_secrets_reach_new_hosts_in_both_regions(way):
    before = way.secrets()
    for _, region in ROOTS.values():
        way.emulator.client("ssm", region).delete_parameter(Name="/dob-api/database-password")
    after = way.secrets()
    changed = {name for region in after for name in after[region] if after[region][name] != before[region][name]}
    assert changed == {"/dob-api/database-password"} and after["eu-west-1"] == after["eu-central-1"]
    for letter, (_, region) in ROOTS.items():
        old = {host["InstanceId"] for host in hosts(way, region, "service")}
        assert "the roll-out is Successful" in way.roll_out(letter, "--all")
        assert not old & {host["InstanceId"] for host in hosts(way, region, "service")}


@pytest.mark.parametrize("letter", ["b", "a"])
def test_another_size_reaches_each_host_by_its_own_way(way, letter):
    root, region = ROOTS[letter]
    way.write(root, 'size = "medium"')
    way.apply(root)
    names = [f"{letter}-{name}" for name in ("db1", "db2", "db3", "monitor")]
    assert {host["InstanceType"] for host in hosts(way, region, "database")} == {"t3.small"}, "Terraform stops none"
    for name in names:
        assert f"{name} changed from t3." in way.play("resize-instance", region, name)
    assert {host["InstanceType"] for host in hosts(way, region, "database")} == {"m7i.large"}
    said = way.roll_out(letter, way.images[region])
    assert "Terraform changed what hosts are" in said and "the roll-out is Successful" in said
    assert {host["InstanceType"] for host in hosts(way, region, "service")} == {"t3.small"}


def test_a_new_image_is_rolled_out_and_terraform_leaves_it_alone(way):
    way.publish("1.1.0")
    for letter, (root, region) in ROOTS.items():
        assert "the roll-out is Successful" in way.roll_out(letter, "1.1.0")
        way.apply(root)
        assert {host["ImageId"] for host in hosts(way, region, "service")} == {way.images[region]}


def test_a_lost_region_is_fenced_and_the_other_can_still_be_changed(way):
    for number in (1, 2, 3):
        assert "is stopped" in way.play("fence-instance", "eu-west-1", f"a-db{number}")
    assert hosts(way, "eu-west-1", "database") == [] and len(hosts(way, "eu-central-1", "database")) == 3
    way.write("failover", "rate_limit = 2000")
    way.apply("failover")
    assert {asked for asked, _ in way.emulator.asked("failover")} == {"eu-central-1", "us-east-1"}


# Asked for only by changes that no test makes: another description or session length of a role, a trust, a thumbprint, a tag later on.
CHANGES = {"iam:UpdateRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateOpenIDConnectProviderThumbprint", "iam:TagOpenIDConnectProvider"}
CHANGES |= {"iam:TagRole", "iam:TagInstanceProfile"}
# Of the roles of the workflows themselves: an administrator makes them first and removes them last.
WORKFLOWS = {"iam:AttachRolePolicy", "iam:DetachRolePolicy"}


def test_the_role_that_runs_terraform_makes_and_hands_on_no_role_but_ours(way):
    handed = {about.rpartition("/")[2] for action, about in way.emulator.used("infra") if action == "iam:PassRole"}
    assert handed and all(name.startswith("dob-api-") for name in handed)
    iam = way.emulator.client("iam", "us-east-1", "infra")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    attempts = [
        lambda: iam.create_role(RoleName="administrators", AssumeRolePolicyDocument=trust),
        lambda: iam.put_role_policy(RoleName="OrganizationAccountAccessRole", PolicyName="more", PolicyDocument=trust),
        lambda: iam.create_user(UserName="dob-api-user"),
        lambda: iam.delete_open_id_connect_provider(OpenIDConnectProviderArn="arn:aws:iam::123456789012:oidc-provider/elsewhere"),
    ]
    for attempt in attempts:
        with pytest.raises(botocore.exceptions.ClientError, match="not authorized"):
            attempt()
    profile = {"ImageId": cloud.DEBIAN, "MinCount": 1, "MaxCount": 1, "IamInstanceProfile": {"Name": "administrators"}}
    with pytest.raises(botocore.exceptions.ClientError, match="not authorized"):
        way.emulator.client("ec2", "eu-west-1", "infra").run_instances(**profile)


def test_destroy_leaves_nothing_of_it(way):
    """As the README has it: unprotected, then each root in its order; the first and the last of them by an administrator."""
    cloud.run(way.top / "infra", "unprotect", cwd=way.top, env=way.env)
    way.each(way.apply, "primary", "failover", "global", "bootstrap")

    # What the tests above were refused on purpose.
    refused = way.emulator.used("infra", "refused to")
    policy = way.emulator.client("iam", "us-east-1").get_role_policy(RoleName="dob-api-workflow-infra", PolicyName="infra")["PolicyDocument"]

    def destroy(root):
        way.infra("destroy", root, "-auto-approve", "-input=false", "-refresh=false")

    way.each(destroy, "primary", "failover")
    way.roles = {}
    destroy("global")
    destroy("bootstrap")
    for region in cloud.REGIONS.values():
        assert not {kind: found for kind, found in left(way, region).items() if found}
    assert way.emulator.used("infra", "refused to") == refused
    # Both ways: what it asked for from the first apply to the last destroy was granted, and what it is granted was asked for.
    used = way.emulator.used("infra") - refused
    services = {action.partition(":")[0] for action, _ in used}
    assert services >= {"ec2", "elasticloadbalancing", "autoscaling", "route53", "acm", "s3", "kms", "logs", "sns", "cloudwatch", "iam", "ecr"}
    granted = {action for one in policy["Statement"] if one["Effect"] == "Allow" for action in listed(one["Action"])}
    asked = {action for action, _ in used if action.startswith("iam:")}
    assert asked | CHANGES | WORKFLOWS == granted and not asked & (CHANGES | WORKFLOWS)
