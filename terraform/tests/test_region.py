"""What a region consists of, in each root as applied and in a region with every extra."""

import re

import cloud
from cloud import of


def test_both_regions_are_alike(plans):
    def shape(root):
        found = cloud.resources(plans[root]["planned_values"]["root_module"])
        return sorted(one["address"] for one in found if one["mode"] == "managed" and "peering" not in one["address"])

    mirrored = {"10.0.": "10.1.", "10.1.": "10.0.", '["a-': '["b-', '["b-': '["a-'}
    other = [re.sub("|".join(map(re.escape, mirrored)), lambda found: mirrored[found[0]], address) for address in shape("failover")]
    assert sorted(other) == shape("primary")


def test_the_balancer_has_the_numbers_of_the_service(region):
    balancer = of(region, "aws_lb")[0]
    assert (balancer["idle_timeout"], balancer["desync_mitigation_mode"], balancer["drop_invalid_header_fields"]) == (60, "strictest", True)
    for group in of(region, "aws_lb_target_group"):
        check = group["health_check"][0]
        assert (check["path"], check["interval"], check["timeout"]) == ("/healthz", 5, 2)
        assert (check["healthy_threshold"], check["unhealthy_threshold"]) == (2, 2)
        # A write may wait 30 s for a primary; an answer must not be cut off.
        assert int(group["deregistration_delay"]) > 30
    # Its lines have the names of people.
    assert [log["enabled"] for log in balancer["access_logs"]] == [False]


def test_the_balancer_speaks_tls_and_sends_everybody_there(region):
    listeners = {listener["port"]: listener for listener in of(region, "aws_lb_listener")}
    assert set(listeners) == {80, 443}
    assert (listeners[443]["protocol"], listeners[443]["ssl_policy"]) == ("HTTPS", "ELBSecurityPolicy-TLS13-1-2-Res-2021-06")
    redirect = listeners[80]["default_action"][0]["redirect"][0]
    assert (redirect["protocol"], redirect["port"], redirect["status_code"]) == ("HTTPS", "443", "HTTP_301")


def test_service_hosts_stand_in_three_zones_and_are_replaced_without_a_gap(region):
    (group,) = of(region, "aws_autoscaling_group")
    zones = {subnet["id"]: subnet["availability_zone"] for subnet in of(region, "aws_subnet") if "service" in subnet["tags"]["Name"]}
    assert set(group["vpc_zone_identifier"]) == set(zones) and len(set(zones.values())) == 3
    policy = group["instance_maintenance_policy"][0]
    assert (policy["min_healthy_percentage"], policy["max_healthy_percentage"]) == (100, 200)
    assert (group["health_check_type"], group["default_instance_warmup"]) == ("ELB", 60)
    assert str(group["launch_template"][0]["version"]).isdigit() and not group["instance_refresh"]
    tracking = of(region, "aws_autoscaling_policy")[0]["target_tracking_configuration"][0]
    assert tracking["predefined_metric_specification"][0]["predefined_metric_type"] == "ASGAverageCPUUtilization"


def test_a_host_whose_hardware_fails_is_moved_to_other_hardware(region):
    hosts = {host["id"] for host in of(region, "aws_instance")}
    watched = {
        alarm["dimensions"]["InstanceId"]
        for alarm in of(region, "aws_cloudwatch_metric_alarm")
        if alarm["metric_name"] == "StatusCheckFailed_System" and any(action.endswith(":ec2:recover") for action in alarm["alarm_actions"])
    }
    assert watched == hosts and len(hosts) == 4


def test_another_size_stops_no_host_that_keeps_data(full_plan):
    """A change of type stops a host, and all of a region's at once: Terraform only writes the new type into a tag."""
    hosts = [one["change"] for one in full_plan["resource_changes"] if one["type"] == "aws_instance"]
    assert len(hosts) == 4
    for change in hosts:
        assert change["actions"] == ["update"] and change["before"]["instance_type"] == change["after"]["instance_type"]
        assert change["before"]["tags"]["Type"] != change["after"]["tags"]["Type"]
    volumes = [one["change"] for one in full_plan["resource_changes"] if one["type"] == "aws_ebs_volume"]
    assert {tuple(change["actions"]) for change in volumes} <= {("update",), ("no-op",)}


def test_data_stands_on_volumes_of_its_own_in_three_zones(region):
    volumes = {volume["id"]: volume["availability_zone"] for volume in of(region, "aws_ebs_volume")}
    hosts = {host["id"]: host["availability_zone"] for host in of(region, "aws_instance")}
    attached = {(one["volume_id"], one["instance_id"]) for one in of(region, "aws_volume_attachment")}
    assert {volume for volume, _ in attached} == set(volumes) and {host for _, host in attached} == set(hosts)
    assert all(volumes[volume] == hosts[host] for volume, host in attached) and len(set(hosts.values())) == 3


# What the hosts themselves call, each with the file and the line that does; an endpoint costs about eight dollars a month and zone.
CALLERS = {
    "s3": ("ansible/filter_plugins/stores.py", '"bucket": "s3-bucket"'),
    "ssm": ("ami/root/usr/libexec/dob-api-cloud", "https://ssm.$region.$domain/"),
    "ec2": ("ansible/roles/monitoring/templates", "ec2_sd_configs"),
    "sns": ("ansible/roles/monitoring/templates", "sns_configs"),
}


def test_every_endpoint_has_a_caller():
    for service, (place, line) in CALLERS.items():
        found = cloud.HERE.parents[1] / place
        assert any(line in file.read_text() for file in ([found] if found.is_file() else found.iterdir())), service


def test_hosts_reach_what_they_need_of_the_cloud_without_the_internet(region):
    endpoints = {one["service_name"].removeprefix("com.amazonaws."): one for one in of(region, "aws_vpc_endpoint")}
    own = next(name.removesuffix(".ssm") for name in endpoints if name.endswith(".ssm"))
    (other,) = {one for one in cloud.REGIONS.values() if one != own}
    tasks = {"ecr.api", "ecr.dkr", "logs"} if [one for one in region if one["type"] == "aws_ecs_service"] else set()
    assert set(endpoints) == {f"{own}.{service}" for service in {*CALLERS, *tasks}} | {f"{other}.s3"}
    assert endpoints[f"{own}.s3"]["vpc_endpoint_type"] == "Gateway"
    assert all(one["private_dns_enabled"] for name, one in endpoints.items() if name != f"{own}.s3")


def test_backups_are_copied_to_the_other_region_under_its_key(region):
    (rule,) = of(region, "aws_s3_bucket_replication_configuration")[0]["rule"]
    own = next(bucket["bucket"] for bucket in of(region, "aws_s3_bucket") if "-backup-" in bucket["bucket"])
    here, there = ("eu-west-1", "eu-central-1") if own.endswith("eu-west-1") else ("eu-central-1", "eu-west-1")
    target = rule["destination"][0]
    assert rule["status"] == "Enabled" and target["bucket"] == "arn:aws:s3:::" + own.replace("-backup-", "-copies-").replace(here, there)
    assert f":kms:{there}:" in target["encryption_configuration"][0]["replica_kms_key_id"]


def test_every_host_of_both_regions_has_a_name_in_each(region):
    names = {record["name"]: record["records"] for record in of(region, "aws_route53_record") if record["name"].endswith(".internal")}
    hosts = {"db1": "1.11", "db2": "2.11", "db3": "3.11", "monitor": "1.31"}
    assert names == {f"{letter}-{host}.dob-api.internal": [f"10.{net}.{end}"] for letter, net in (("a", 0), ("b", 1)) for host, end in hosts.items()}


def test_all_that_can_be_asked_for_is_there(full_plan):
    found = list(cloud.resources(full_plan["planned_values"]["root_module"]))
    assert of(found, "aws_nat_gateway") and of(found, "aws_wafv2_web_acl_association") and of(found, "aws_sns_topic_subscription")
    # Containers stand where hosts do, behind the same balancer, and get their part of the requests.
    (service,) = of(found, "aws_ecs_service")
    assert service["network_configuration"][0]["assign_public_ip"] is False
    weights = next(listener for listener in of(found, "aws_lb_listener") if listener["port"] == 443)["default_action"][0]["forward"][0][
        "target_group"
    ]
    assert sorted(target["weight"] for target in weights) == [30, 70]
