"""What a reviewer would ask of the plan, held against each root as applied and against a region with every extra."""

import ipaddress
import json

import pytest

import cloud
from cloud import of

ANYWHERE = {"0.0.0.0/0", "::/0"}
# A database host answers these ports to itself, to services, to its monitoring host, and to the other region's hosts.
DATABASE_PORTS = {5432, 8008, 8432, 2379, 2380}
ETCD_METRICS = 2381


def test_nothing_is_public_but_the_balancer(region):
    assert [balancer["internal"] for balancer in of(region, "aws_lb")] == [False]
    assert not any(subnet["map_public_ip_on_launch"] for subnet in of(region, "aws_subnet"))
    for template in of(region, "aws_launch_template"):
        assert not template["network_interfaces"]
    public = {subnet["id"] for subnet in of(region, "aws_subnet") if "public" in subnet["tags"]["Name"]}
    assert len(public) == 3 and set(of(region, "aws_lb")[0]["subnets"]) == public
    # The emulator gives every host a public address; a cloud gives none in such a subnet.
    assert not public & {host["subnet_id"] for host in of(region, "aws_instance")}
    for blocked in of(region, "aws_s3_bucket_public_access_block"):
        assert all(blocked[rule] for rule in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"))


def test_the_internet_may_only_open_443_and_80_at_the_balancer(region):
    groups = {group["id"]: group["name"] for group in of(region, "aws_security_group")}
    opened = [rule for rule in of(region, "aws_vpc_security_group_ingress_rule") if rule["cidr_ipv4"] in ANYWHERE or rule["cidr_ipv6"]]
    assert {(groups[rule["security_group_id"]][10:], rule["from_port"], rule["to_port"]) for rule in opened} == {
        ("balancer", 443, 443),
        ("balancer", 80, 80),
    }


def test_every_rule_says_what_for_and_refers_to_a_group_or_to_fixed_hosts(region):
    for kind in ("aws_vpc_security_group_ingress_rule", "aws_vpc_security_group_egress_rule"):
        for rule in of(region, kind):
            assert rule["description"] and rule["ip_protocol"] in ("tcp", "icmp")
            if rule["cidr_ipv4"] and rule["cidr_ipv4"] not in ANYWHERE:
                assert ipaddress.ip_network(rule["cidr_ipv4"]).is_private


def test_database_ports_are_open_to_services_databases_and_monitoring_alone(region):
    groups = {group["id"]: group["name"][10:] for group in of(region, "aws_security_group")}
    seen = set()
    for rule in of(region, "aws_vpc_security_group_ingress_rule"):
        if groups[rule["security_group_id"]] == "database" and rule["ip_protocol"] == "tcp":
            ports = (DATABASE_PORTS | {ETCD_METRICS}) & set(range(rule["from_port"], rule["to_port"] + 1))
            source = groups.get(rule["referenced_security_group_id"]) or rule["cidr_ipv4"]
            seen |= {(source, port) for port in ports}
    own = {(source, port) for source, port in seen if source in groups.values()}
    assert own == {("service", 5432)} | {("database", port) for port in DATABASE_PORTS} | {("monitoring", 8008), ("monitoring", ETCD_METRICS)}
    # Of the other region: its services' block and its hosts, and never its etcd.
    assert {port for source, port in seen - own} == {5432, 8008}
    assert {ipaddress.ip_network(source).prefixlen for source, _ in seen - own} == {21, 32}


def test_all_that_keeps_data_is_encrypted(everything):
    assert all(volume["encrypted"] for volume in of(everything, "aws_ebs_volume"))
    assert all(disk["encrypted"] for host in of(everything, "aws_instance") for disk in host["root_block_device"])
    for template in of(everything, "aws_launch_template"):
        assert [disk["ebs"][0]["encrypted"] for disk in template["block_device_mappings"]] == ["true"]
    assert all(topic["kms_master_key_id"] for topic in of(everything, "aws_sns_topic"))
    assert all(group["kms_key_id"] for group in of(everything, "aws_cloudwatch_log_group"))
    encrypted = {one["bucket"] for one in of(everything, "aws_s3_bucket_server_side_encryption_configuration")}
    assert encrypted == {bucket["bucket"] for bucket in of(everything, "aws_s3_bucket")}


# What is called a policy there is none, or stands in a resource of its own.
NO_PERMISSIONS = {"aws_s3_bucket", "aws_ecr_lifecycle_policy"}


def policies(resources):
    """Every policy document of a plan, with the resource that it stands in."""
    for one in resources:
        for name in ("policy", "assume_role_policy"):
            if one["mode"] == "managed" and one["type"] not in NO_PERMISSIONS and isinstance(one["values"].get(name), str):
                yield one, json.loads(one["values"][name])


def listed(given):
    return [given] if isinstance(given, str) else given


def test_no_policy_allows_a_wildcard_of_actions_on_a_wildcard_of_resources(everything):
    found = list(policies(everything))
    assert {one["type"] for one, _ in found} >= {"aws_iam_role", "aws_iam_role_policy", "aws_kms_key", "aws_s3_bucket_policy", "aws_vpc_endpoint"}
    for one, policy in found:
        for statement in policy["Statement"]:
            # In a key's policy the star is the key itself.
            if statement["Effect"] == "Deny" or one["type"].startswith("aws_kms_"):
                continue
            assert "NotAction" not in statement and "NotResource" not in statement, (one["address"], statement)
            wild = [action for action in listed(statement["Action"]) if "*" in action]
            assert not wild or "*" not in listed(statement.get("Resource", [])), (one["address"], statement)


def test_policies_of_the_cloud_are_attached_to_those_who_look_and_who_apply_alone(plans):
    found = cloud.resources(plans["global"]["planned_values"]["root_module"])
    attached = {one["index"]: one["values"]["policy_arn"].rsplit("/")[-1] for one in found if one["type"] == "aws_iam_role_policy_attachment"}
    assert attached == {"plan": "ReadOnlyAccess", "infra": "PowerUserAccess"}


def test_a_bucket_policy_without_a_principal_has_a_condition(everything):
    found = [policy for one, policy in policies(everything) if one["type"] == "aws_s3_bucket_policy"]
    assert len(found) >= 10
    for statement in (statement for policy in found for statement in policy["Statement"]):
        assert statement["Effect"] == "Deny" or statement["Principal"] not in ("*", {"AWS": "*"}) or statement["Condition"], statement


def test_a_workflow_is_bound_to_one_repository_and_environment(plans):
    roles = [one for one in cloud.resources(plans["global"]["planned_values"]["root_module"]) if one["type"] == "aws_iam_role"]
    subjects = {
        role["index"]: json.loads(role["values"]["assume_role_policy"])["Statement"][0]["Condition"]["StringEquals"][
            "token.actions.githubusercontent.com:sub"
        ]
        for role in roles
    }
    environments = {name: f"environment:{name}" for name in ("infra", "release", "updates", "deploy", "drill", "database")} | {"plan": "pull_request"}
    assert subjects == {name: f"repo:owner/dob-api:{where}" for name, where in environments.items()}


def test_hosts_answer_to_imdsv2_alone(region):
    options = [one["metadata_options"][0] for one in of(region, "aws_instance") + of(region, "aws_launch_template")]
    assert {(option["http_tokens"], option["http_put_response_hop_limit"]) for option in options} == {("required", 1)}


def test_what_holds_data_is_protected_from_deletion(region, applied):
    assert all(host["disable_api_termination"] for host in of(region, "aws_instance"))
    assert all(balancer["enable_deletion_protection"] for balancer in of(region, "aws_lb"))
    assert not any(bucket["force_destroy"] for bucket in of(region, "aws_s3_bucket"))
    locked = {one["bucket"].split("-")[2] for one in of(region, "aws_s3_bucket_object_lock_configuration")}
    assert locked == {"backup", "copies"}


def test_nothing_can_be_destroyed_before_it_is_unprotected(applied):
    def refused(root):
        with pytest.raises(cloud.Failed, match="prevent_destroy"):
            applied.terraform(root, "plan", "-destroy", "-lock=false", "-refresh=false")

    applied.each(refused, "primary", "global")


def test_a_shell_is_reached_by_the_connect_endpoint_alone(region):
    (endpoint,) = of(region, "aws_ec2_instance_connect_endpoint")
    (shell,) = endpoint["security_group_ids"]
    rules = of(region, "aws_vpc_security_group_ingress_rule")
    assert {rule["referenced_security_group_id"] for rule in rules if rule["from_port"] <= 22 <= rule["to_port"]} == {shell}
    assert not [rule for rule in rules if rule["security_group_id"] == shell]


def test_the_second_wall_lets_the_internet_open_nothing_behind_the_balancer(region):
    walls = {wall["tags"]["Name"].rsplit("-")[-1]: wall for wall in of(region, "aws_network_acl")}
    assert set(walls) == {"public", "service", "data"}
    assert sorted(subnet for wall in walls.values() for subnet in wall["subnet_ids"]) == sorted(subnet["id"] for subnet in of(region, "aws_subnet"))
    for tier, wall in walls.items():
        wide = {
            (rule["from_port"], rule["to_port"])
            for rule in wall["ingress"]
            if rule["cidr_block"] in ANYWHERE and rule["protocol"] in ("6", "tcp", "-1")
        }
        # Answers come to the ports that Linux gives to those who ask.
        assert {ports for ports in wide if ports[0] < 1024} == ({(80, 80), (443, 443)} if tier == "public" else set())
        assert all(ports[0] >= 32768 for ports in wide if tier != "public")
        assert not any(rule["protocol"] == "-1" for rule in wall["ingress"])


def test_no_secret_is_in_a_state(applied, secrets):
    """Nothing here makes, reads or is given one."""
    kept = {value for region in secrets.values() for value in region.values()}
    for root in cloud.ROOTS:
        state = applied.state(root)
        kinds = {one["type"] for one in json.loads(state)["resources"]}
        assert len(kinds) > 5 and not any(value in state for value in kept)
        assert not kinds & {"aws_ssm_parameter", "aws_secretsmanager_secret_version", "random_password", "tls_private_key"}
