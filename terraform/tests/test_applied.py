"""What the applied configuration is to those who work with it."""

import base64
import json
import pathlib
import re
import subprocess
import sys

import pytest

import cloud

# What the emulator forgets, so that it is planned again; nothing else may differ after an apply.
FORGOTTEN = {
    "aws_autoscaling_group": {"default_instance_warmup", "instance_maintenance_policy", "capacity_reservation_specification"},
    "aws_autoscaling_policy": {"enabled", "predictive_scaling_configuration"},
    "aws_instance": {"disable_api_termination", "vpc_security_group_ids"},
    # It counts the template's own tags among those of what is launched.
    "aws_launch_template": {"latest_version", "tag_specifications"},
    # The kind of an ICMP message.
    "aws_network_acl": {"ingress"},
    "aws_s3_bucket_replication_configuration": {"rule"},
    # Of the side that accepts.
    "aws_vpc_peering_connection_accepter": {"tags", "tags_all"},
    # Of rules that refer to a group.
    "aws_vpc_security_group_egress_rule": {"description"},
    "aws_vpc_security_group_ingress_rule": {"description"},
}


def differences(plan):
    """The attributes that a plan would change, by the type of their resource."""
    for change in plan.get("resource_changes", []):
        before, after = change["change"]["before"] or {}, change["change"]["after"] or {}
        if change["mode"] == "managed" and change["change"]["actions"] != ["no-op"]:
            names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
            yield change["type"], frozenset(names), change["change"]["actions"]


def test_the_second_plan_shows_no_difference(plans):
    unexpected = [
        f"{root}: {kind} {actions} {sorted(names)}"
        for root, plan in plans.items()
        for kind, names, actions in differences(plan)
        if actions != ["update"] or not names <= FORGOTTEN.get(kind, set())
    ]
    assert not unexpected, "\n".join(unexpected)


@pytest.mark.parametrize(("root", "own"), [("primary", "eu-west-1"), ("failover", "eu-central-1")])
def test_a_region_asks_nothing_of_the_other(applied, root, own):
    """Neither its plan nor its state: each request is signed for the region that it goes to."""
    log = applied.top / f"{root}.log"
    env = applied.env | {"TF_LOG": "DEBUG", "TF_LOG_PATH": str(log)}
    cloud.run("terraform", f"-chdir={root}", "plan", "-lock=false", "-input=false", cwd=applied.top, env=env)
    asked = re.findall(r"Credential=test/\d+/([a-z0-9-]+)/(\w+)/aws4_request", log.read_text())
    assert {service for _, service in asked} > {"ec2", "s3", "kms"}
    # What belongs to no region answers as us-east-1.
    assert {region for region, _ in asked} <= {own, "us-east-1"}


def test_a_second_writer_is_kept_out_by_the_lock(applied):
    s3 = applied.emulator.client("s3", "eu-central-1")
    bucket = next(one["Name"] for one in s3.list_buckets()["Buckets"] if re.fullmatch("dob-api-state-.*-eu-central-1", one["Name"]))
    s3.put_object(Bucket=bucket, Key="failover.tfstate.tflock", Body=json.dumps({"ID": "another", "Who": "colleague", "Operation": "apply"}))
    try:
        with pytest.raises(cloud.Failed, match="Error acquiring the state lock"):
            applied.infra("plan", "failover")
    finally:
        s3.delete_object(Bucket=bucket, Key="failover.tfstate.tflock")


@pytest.mark.parametrize("name", cloud.REGIONS)
def test_every_volume_is_tagged_as_its_host(applied, name):
    ec2 = applied.emulator.client("ec2", cloud.REGIONS[name])
    volumes = ec2.describe_volumes(Filters=[{"Name": "tag:Project", "Values": ["dob-api"]}])["Volumes"]
    kept = [volume for volume in volumes if {"Key": "Role", "Value": "database"} in volume["Tags"] and volume["Size"] == 20]
    assert len(kept) == 3 and all(volume["Encrypted"] and volume["State"] == "in-use" for volume in kept)


@pytest.mark.parametrize("name", cloud.REGIONS)
def test_a_roll_out_finds_the_group_the_template_and_the_alarms(applied, name):
    region, root = cloud.REGIONS[name], {"a": "primary", "b": "failover"}[name]
    service = applied.output(root, "service")
    groups = applied.emulator.client("autoscaling", region).describe_auto_scaling_groups(
        Filters=[{"Name": "tag:Project", "Values": ["dob-api"]}, {"Name": "tag:Role", "Values": ["service"]}]
    )["AutoScalingGroups"]
    assert [group["AutoScalingGroupName"] for group in groups] == [service["group"]] == [f"dob-api-{name}"]
    assert groups[0]["LaunchTemplate"]["LaunchTemplateId"] == service["launch_template"]
    assert groups[0]["LaunchTemplate"]["Version"].isdigit() and len(groups[0]["AvailabilityZones"]) == 3
    alarms = applied.emulator.client("cloudwatch", region).describe_alarms(AlarmNames=service["alarms"])["MetricAlarms"]
    assert len(alarms) == len(service["alarms"]) == 4


def test_a_roll_out_is_not_undone_by_the_next_apply(applied):
    """The deploy makes a version with its image, and gives it to the group; a plan leaves both alone."""
    service, image = applied.output("primary", "service"), "ami-0123456789abcdef0"
    ec2, scaling = (applied.emulator.client(kind, "eu-west-1") for kind in ("ec2", "autoscaling"))
    made = ec2.create_launch_template_version(
        LaunchTemplateId=service["launch_template"], SourceVersion="$Latest", LaunchTemplateData={"ImageId": image}
    )["LaunchTemplateVersion"]["VersionNumber"]
    version = {"LaunchTemplateId": service["launch_template"], "Version": str(made)}
    scaling.update_auto_scaling_group(AutoScalingGroupName=service["group"], LaunchTemplate=version, DesiredCapacity=4)
    changed = {kind: names for kind, names, _ in differences(applied.plan("primary"))}
    assert not {"image_id", "launch_template"} & set().union(*changed.values())
    assert "desired_capacity" not in changed.get("aws_autoscaling_group", set())


def test_a_service_host_gets_its_settings_and_no_secret(applied):
    ec2 = applied.emulator.client("ec2", "eu-west-1")
    template = applied.output("primary", "service")["launch_template"]
    first = ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=["1"])["LaunchTemplateVersions"][0]
    lines = base64.b64decode(first["LaunchTemplateData"]["UserData"]).decode().splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    assert settings["DATABASE_URL"].count(",") == 5 and "PASSWORD" not in " ".join(settings)
    assert settings["DOB_API_LISTEN"] == "0.0.0.0:8080"


def test_the_regions_reach_each_other(applied):
    for name, region in cloud.REGIONS.items():
        ec2 = applied.emulator.client("ec2", region)
        states = {one["Status"]["Code"] for one in ec2.describe_vpc_peering_connections()["VpcPeeringConnections"]}
        assert "active" in states
        other = {"a": "10.1.0.0/16", "b": "10.0.0.0/16"}[name]
        tables = ec2.describe_route_tables(Filters=[{"Name": "route.destination-cidr-block", "Values": [other]}])["RouteTables"]
        assert len(tables) == 2


def test_the_public_name_fails_over_between_the_regional_names(applied):
    route53 = applied.emulator.client("route53", "us-east-1")
    zone = route53.list_hosted_zones()["HostedZones"][0]["Id"]
    records = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    public = {one["Failover"]: one["ResourceRecords"][0]["Value"] for one in records if one["Name"] == "api.dob.example.com."}
    assert public == {"PRIMARY": "eu-west-1.dob.example.com", "SECONDARY": "eu-central-1.dob.example.com"}
    regional = {one["Name"] for one in records if one["Type"] == "A"}
    assert regional == {"eu-west-1.dob.example.com.", "eu-central-1.dob.example.com."}


def test_containers_get_their_secrets_as_files(full_plan, tmp_path):
    """The first container's own command, run by a shell as it would be."""
    task = next(one for one in cloud.resources(full_plan["planned_values"]["root_module"]) if one["type"] == "aws_ecs_task_definition")
    containers = {one["name"]: one for one in json.loads(task["values"]["container_definitions"])}
    names = {secret["name"]: f"value of {secret['name']}" for secret in containers["secrets"]["secrets"]}
    command = [*containers["secrets"]["entryPoint"], *containers["secrets"]["command"]]
    subprocess.run(command, env={"PATH": "/usr/bin:/bin", "FOLDER": str(tmp_path)} | names, check=True, timeout=10)
    settings = {one["name"]: one["value"] for one in containers["dob-api"]["environment"]}
    for name in ("DATABASE_PASSWORD", "DATABASE_CA"):
        file = tmp_path / pathlib.Path(settings[f"{name}_FILE"]).name
        assert file.read_text() == f"value of {name}" and file.stat().st_mode & 0o777 == 0o400
    assert not set(names) & set(settings)


def test_secrets_are_made_once_and_are_the_same_in_both_regions(applied, secrets):
    assert applied.settle_secrets() == secrets and secrets["eu-west-1"] == secrets["eu-central-1"]
    assert len(set(secrets["eu-west-1"].values())) == 7
    # What service hosts may read is there.
    policy = applied.emulator.client("iam", "us-east-1").get_role_policy(RoleName="dob-api-a-service", PolicyName="service")["PolicyDocument"]
    allowed = {arn.split(":parameter")[1] for arn in policy["Statement"][0]["Resource"]}
    assert allowed == {"/dob-api/database-password", "/dob-api/database-ca"} <= secrets["eu-west-1"].keys()


def test_a_key_given_for_a_certificate_is_refused(applied, tmp_path):
    (tmp_path / "ca.key").write_text("-----BEGIN PRIVATE KEY-----\n")
    done = cloud.run(sys.executable, applied.top / "secrets", "--ca", tmp_path / "ca.key", cwd=applied.top, env=applied.env, check=False)
    assert done.returncode == 1 and "without its key" in done.stderr
