"""What the applied configuration is to those who work with it."""

import base64
import json
import re
import sys

import pytest

import cloud
from conftest import UNCHANGED

# What the emulator forgets, so that it is planned again; nothing else may differ after an apply.
FORGOTTEN = {
    "aws_autoscaling_group": {"default_instance_warmup", "instance_maintenance_policy", "capacity_reservation_specification"},
    "aws_autoscaling_policy": {"enabled", "predictive_scaling_configuration"},
    "aws_instance": {"disable_api_termination", "vpc_security_group_ids"},
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
def test_a_region_asks_nothing_of_the_other(applied, plans, root, own):
    """Neither an apply, nor a plan, nor a state: each request is signed for the region that it goes to."""
    asked = applied.emulator.asked(root)
    assert {service for region, service in asked if region == own} > {"ec2", "s3", "kms"}
    # What belongs to no region answers as us-east-1.
    assert {region for region, _ in asked} == {own, "us-east-1"}
    assert {service for region, service in asked if region != own} <= {"iam", "route53"}


def test_a_way_to_debians_archive_opens_without_a_change_of_a_host(applied):
    plan = applied.plan("primary", UNCHANGED, "-var=nat=true")
    changes = [
        (kind, names, actions) for kind, names, actions in differences(plan) if actions != ["update"] or not names <= FORGOTTEN.get(kind, set())
    ]
    assert {"aws_nat_gateway", "aws_eip", "aws_route"} <= {kind for kind, _, actions in changes if actions == ["create"]}
    # What is not added is changed in its place: the lists of the subnets.
    assert {(kind, *actions) for kind, _, actions in changes if actions != ["create"]} <= {("aws_network_acl", "update")}


def test_a_second_writer_is_kept_out_by_the_lock(applied):
    s3 = applied.emulator.client("s3", "eu-central-1")
    bucket = next(one["Name"] for one in s3.list_buckets()["Buckets"] if re.fullmatch("dob-api-state-.*-eu-central-1", one["Name"]))
    s3.put_object(Bucket=bucket, Key="failover.tfstate.tflock", Body=json.dumps({"ID": "another", "Who": "colleague", "Operation": "apply"}))
    try:
        with pytest.raises(cloud.Failed, match="Error acquiring the state lock"):
            applied.terraform("failover", "plan", "-refresh=false")
    finally:
        s3.delete_object(Bucket=bucket, Key="failover.tfstate.tflock")


@pytest.mark.parametrize("name", cloud.REGIONS)
def test_every_volume_is_tagged_as_its_host(applied, name):
    ec2 = applied.emulator.client("ec2", cloud.REGIONS[name])
    volumes = ec2.describe_volumes(Filters=[{"Name": "tag:Project", "Values": ["dob-api"]}])["Volumes"]
    kept = [volume for volume in volumes if {"Key": "Role", "Value": "database"} in volume["Tags"] and volume["Size"] == 20]
    assert len(kept) == 3 and all(volume["Encrypted"] and volume["State"] == "in-use" for volume in kept)


@pytest.mark.parametrize("name", cloud.REGIONS)
def test_a_roll_out_finds_the_group_the_template_and_the_alarms(applied, plans, name):
    """By the deploy's own script, which has only the region; the primary region was rolled out to once."""
    region, root, before = cloud.REGIONS[name], {"a": "primary", "b": "failover"}[name], {"a": cloud.NEW_IMAGE, "b": cloud.IMAGE}[name]
    service = applied.output(root, "service")
    version = applied.group(region)["LaunchTemplate"]["Version"]
    assert version == {"a": "2", "b": "1"}[name]
    script = [sys.executable, "-B", cloud.HERE.parents[1] / "ami/roll_out.py", cloud.DEBIAN, "--region", region, "--dry-run"]
    said = cloud.run(*script, env=applied.env).stderr
    assert f"of {service['launch_template']} from version 1, with {cloud.DEBIAN}" in said, "a roll-out copies what Terraform wrote"
    assert f"{service['group']} in {region}: from {before} (version {version}) to {cloud.DEBIAN}" in said
    alarms = [f"dob-api-{name}-{alarm}" for alarm in ("errors", "refused", "slow", "unhealthy")]
    assert f"watched by {', '.join(alarms)}" in said and sorted(service["alarms"]) == alarms


def test_a_roll_out_is_not_undone_by_the_next_apply(applied, plans):
    changed = list(differences(plans["primary"]))
    group = applied.group("eu-west-1")
    assert group["DesiredCapacity"] == 4 and int(group["LaunchTemplate"]["Version"]) > 1
    assert not {"image_id", "launch_template", "desired_capacity"} & set().union(*(names for _, names, _ in changed))


def test_a_service_host_gets_its_settings_and_no_secret(applied):
    ec2 = applied.emulator.client("ec2", "eu-west-1")
    template = applied.output("primary", "service")["launch_template"]
    first = ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=["1"])["LaunchTemplateVersions"][0]
    lines = base64.b64decode(first["LaunchTemplateData"]["UserData"]).decode().splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    assert settings["DATABASE_URL"].count(",") == 5 and "PASSWORD" not in " ".join(settings)
    assert settings["DOB_API_LISTEN"] == "0.0.0.0:8080"
    # The image takes each line: by the check that it makes itself, of the names that the manual has.
    top = cloud.HERE.parents[1]
    names = " ".join(re.findall(r"(?:DOB_API|DATABASE)_[A-Z_]+", (top / "packaging/dob-api.8").read_text()))
    check = 'eval "$(sed -n "/^fail() {/,/^}/p; /^check() {/,/^}/p" "$1" "$2")"; known=$3; shift 3; for line; do check 0 "$line"; done'
    programs = [top / "ami/root/usr/libexec" / name for name in ("dob-api-cloud", "dob-api-settings")]
    cloud.run("bash", "-euc", f"purpose=check parameters=/dob-api; {check}", "check", *programs, names, *lines)
    assert settings["DOB_API_MONITOR"] == "a-monitor/10.0.1.31", "the monitoring host's certificate has its name, and logs go to its address"


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
    zone = next(one["Id"] for one in route53.list_hosted_zones()["HostedZones"] if one["Name"] == "dob.example.com.")
    records = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    public = {one["Failover"]: one["ResourceRecords"][0]["Value"] for one in records if one["Name"] == "api.dob.example.com."}
    assert public == {"PRIMARY": "eu-west-1.dob.example.com", "SECONDARY": "eu-central-1.dob.example.com"}
    regional = {one["Name"] for one in records if one["Type"] == "A"}
    assert regional == {"eu-west-1.dob.example.com.", "eu-central-1.dob.example.com."}


def test_containers_get_their_secrets_as_files_and_no_second_image(full_plan):
    """The service's own program writes them, as `tests/secrets.rs` shows; here, that it is called as its manual says."""
    task = next(one for one in cloud.resources(full_plan["planned_values"]["root_module"]) if one["type"] == "aws_ecs_task_definition")
    containers = {one["name"]: one for one in json.loads(task["values"]["container_definitions"])}
    first, service = containers["secrets"], containers["dob-api"]
    assert first["image"] == service["image"] and "entryPoint" not in first
    command, folder, owner = first["command"]
    manual = (cloud.HERE.parents[1] / "packaging/dob-api.8").read_text()
    assert f'.BI "{command} " "FOLDER UID"' in manual
    described = manual.partition(f'.BI "{command} ')[2].partition(".SH")[0]
    given = {one["name"] for one in first["secrets"]}
    settings = {one["name"]: one["value"] for one in service["environment"]}
    assert given == set(re.findall(r"^\.B (DATABASE_\w+)$", described, re.M)) and not given & set(settings)
    assert {settings[f"{name}_FILE"] for name in given} == {f"{folder}/{file}" for file in re.findall(r"^\.I (database-\S+)$", described, re.M)}
    assert f'USER = "/var/lib/dob-api", {owner}' in (cloud.HERE.parents[1] / "packaging/container.py").read_text()
    # The folder is root's on Fargate: the first container writes as root, and the service as nobody in particular.
    assert first["user"] == "0" and "user" not in service and service["dependsOn"] == [{"containerName": "secrets", "condition": "SUCCESS"}]


def test_secrets_are_made_once_and_are_the_same_in_both_regions(applied, secrets):
    assert applied.settle_secrets() == secrets and secrets["eu-west-1"] == secrets["eu-central-1"]
    assert len(set(secrets["eu-west-1"].values())) == 8
    # What service hosts may read is there.
    policy = applied.emulator.client("iam", "us-east-1").get_role_policy(RoleName="dob-api-a-service", PolicyName="service")["PolicyDocument"]
    allowed = {arn.split(":parameter")[1] for arn in policy["Statement"][0]["Resource"]}
    assert allowed == {f"/dob-api/{name}" for name in ("database-password", "database-ca", "service-identity")} <= secrets["eu-west-1"].keys()


def test_a_key_given_for_a_certificate_is_refused(applied, tmp_path):
    (tmp_path / "ca.key").write_text("-----BEGIN PRIVATE KEY-----\n")
    done = cloud.run(
        sys.executable,
        applied.top / "secrets",
        "--ca",
        tmp_path / "ca.key",
        "--ca-key",
        tmp_path / "ca.key",
        cwd=applied.top,
        env=applied.env,
        check=False,
    )
    assert done.returncode == 1 and "without its key" in done.stderr


def certificate(folder, held):
    (folder / "identity.pem").write_text(held)
    return ("-in", folder / "identity.pem", "-noout")


def test_service_hosts_get_a_certificate_for_servers_that_is_renewed_before_it_ends_and_kept_till_then(applied, secrets, tmp_path):
    held = secrets["eu-west-1"]["/dob-api/service-identity"]
    said = cloud.run("openssl", "x509", *certificate(tmp_path, held), "-subject", "-ext", "subjectAltName,extendedKeyUsage,keyUsage").stdout
    assert "CN = service" in said and "DNS:service" in said and "TLS Web Server Authentication" in said and "Client" not in said
    assert "PRIVATE KEY" in held and (applied.top / "ca.key").read_text() not in str(secrets)
    # One that ends soon, and one of another authority.
    short = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=service", "-keyout", tmp_path / "k")
    for more in (("-days", "30", "-CA", applied.top / "ca.crt", "-CAkey", applied.top / "ca.key"), ("-days", "800")):
        cloud.run("openssl", *short, *more, "-out", tmp_path / "c")
        for region in cloud.REGIONS.values():
            wrong = (tmp_path / "c").read_text() + (tmp_path / "k").read_text()
            applied.emulator.client("ssm", region).put_parameter(Name="/dob-api/service-identity", Value=wrong, Type="SecureString", Overwrite=True)
        renewed = applied.settle_secrets()
        (value,) = {names["/dob-api/service-identity"] for names in renewed.values()}
        cloud.run("openssl", "verify", "-CAfile", applied.top / "ca.crt", certificate(tmp_path, value)[1])
        cloud.run("openssl", "x509", *certificate(tmp_path, value), "-checkend", str(800 * 86400))
        # No password changes with it.
        assert {name: value for name, value in renewed["eu-west-1"].items() if "identity" not in name} == {
            name: value for name, value in secrets["eu-west-1"].items() if "identity" not in name
        }
    assert applied.settle_secrets() == renewed
