"""How it all ends; the last file, as nothing is left after it."""

import json

import cloud
from conftest import UNCHANGED


def left(applied, region):
    """What of ours is still there, by its kind."""

    def client(service):
        return applied.emulator.client(service, region)

    ours = [{"Name": "tag:Project", "Values": ["dob-api"]}]
    ec2 = client("ec2")
    hosts = [host for group in ec2.describe_instances(Filters=ours)["Reservations"] for host in group["Instances"]]
    return {
        "hosts": [host["InstanceId"] for host in hosts if host["State"]["Name"] != "terminated"],
        "volumes": ec2.describe_volumes(Filters=ours)["Volumes"],
        "networks": ec2.describe_vpcs(Filters=ours)["Vpcs"],
        "templates": ec2.describe_launch_templates()["LaunchTemplates"],
        "endpoints": [one for one in ec2.describe_vpc_endpoints()["VpcEndpoints"] if one["State"] != "deleted"],
        "balancers": client("elbv2").describe_load_balancers()["LoadBalancers"],
        "targets": client("elbv2").describe_target_groups()["TargetGroups"],
        "groups": client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"],
        "buckets": client("s3").list_buckets()["Buckets"],
        "topics": client("sns").list_topics()["Topics"],
        "alarms": client("cloudwatch").describe_alarms()["MetricAlarms"],
        "logs": client("logs").describe_log_groups()["logGroups"],
        "addresses": ec2.describe_addresses()["Addresses"],
        "gateways": [one for one in ec2.describe_nat_gateways()["NatGateways"] if one["State"] != "deleted"],
        # One that was deleted is remembered for a while.
        "clusters": [one for one in client("ecs").describe_clusters(clusters=["dob-api-a"])["clusters"] if one["status"] != "INACTIVE"],
        "firewalls": client("wafv2").list_web_acls(Scope="REGIONAL")["WebACLs"],
        "registries": client("ecr").describe_repositories()["repositories"],
        "keys": ec2.describe_key_pairs()["KeyPairs"],
        "zones": client("route53").list_hosted_zones()["HostedZones"],
        "roles": [role for role in client("iam").list_roles()["Roles"] if role["RoleName"].startswith("dob-api")],
    }


def test_destroy_leaves_nothing(applied, full):
    """Nor of a region with everything that can be asked for, and with backups in its locked bucket."""
    applied.emulator.client("s3", "eu-west-1").put_object(Bucket=applied.output("primary", "buckets")["backup"], Key="kept", Body=b"data")
    cloud.run(applied.top / "infra", "unprotect", cwd=applied.top, env=applied.env)

    def unprotect(root):
        applied.apply(root, UNCHANGED, *([full] if root == "primary" else []))

    def destroy(root):
        applied.infra("destroy", root, "-auto-approve", "-input=false", UNCHANGED)

    applied.each(unprotect, "primary", "failover", "global", "bootstrap")
    applied.each(destroy, "primary", "failover")
    destroy("global")
    destroy("bootstrap")
    for region in cloud.REGIONS.values():
        remains = {kind: found for kind, found in left(applied, region).items() if found}
        assert not remains, json.dumps(remains, default=str)[:2000]
