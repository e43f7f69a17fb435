"""Who may tag instances gets no password, saves no old primary from its fence, and has no other machine powered off."""

import pytest

from test_aws import ANSIBLE, BIN, client, cloud, fence, inventory, launch, run, state  # noqa: F401 the fixture is this module's too

EC2 = "eu-west-1"


def instances(**filters):
    given = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
    return [one for group in client("ec2", EC2).describe_instances(Filters=given)["Reservations"] for one in group["Instances"]]


def at(address):
    (found,) = instances(private_ip_address=address)
    return found


def tag(instance, **tags):
    client("ec2", EC2).create_tags(Resources=[instance["InstanceId"]], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])


@pytest.fixture
def renamed(cloud):  # noqa: F811
    """Region a after an attack: db1 hides as a service host, and the service's host has its name."""
    primary, other = at("10.0.1.11"), instances(**{"tag:Name": "dob-api-a-app"})[0]
    tag(primary, Name="dob-api-a-old", Role="service")
    tag(other, Name="dob-api-a-db1", Role="database")
    yield primary["InstanceId"], other["InstanceId"]
    tag(primary, Name="dob-api-a-db1", Role="database")
    tag(other, Name="dob-api-a-app", Role="service")
    client("ec2", EC2).start_instances(InstanceIds=[primary["InstanceId"], other["InstanceId"]])


def now(instance):
    return client("ec2", EC2).describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["State"]["Name"]


def test_a_renamed_primary_is_powered_off_and_the_instance_that_took_its_name_is_left_alone(cloud, renamed):  # noqa: F811
    primary, other = renamed
    done = fence(cloud, "--region", EC2, "a-db1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{primary} is stopped\n"
    assert (now(primary), now(other)) == ("stopped", "running")


def test_a_stopped_instance_of_the_name_proves_nothing_while_the_primary_runs(cloud, renamed):  # noqa: F811
    primary, other = renamed
    client("ec2", EC2).stop_instances(InstanceIds=[other])
    refusing = cloud | {"AWS_ACCESS_KEY_ID": "drill"}
    done = fence(refusing, "--region", EC2, "a-db1")
    assert done.returncode != 0 and "was not fenced" in done.stderr, done.stdout
    assert now(primary) == "running"


def test_a_renamed_host_keeps_its_place_and_its_thief_gets_none(cloud, renamed):  # noqa: F811
    primary, other = renamed
    done = run(cloud, BIN / "ansible-inventory", "--inventory", "inventories/aws", "--host", "a-db1")
    assert f'"ec2_instance_id": "{primary}"' in done.stdout and other not in done.stdout
    assert f"{primary} is a-db1 by its address" in " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def rogue(cloud):  # noqa: F811
    """Instances that are tagged as hosts: one beside the others, and one at a host's address in a network that is not ours."""
    ec2 = client("ec2", EC2)
    beside = at("10.0.2.11")["SubnetId"]
    launch(ec2, "a-db4", "database", "a", SubnetId=beside, PrivateIpAddress="10.0.2.77")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.3.0/24", AvailabilityZone=f"{EC2}c")["Subnet"]["SubnetId"]
    launch(ec2, "a-db3", "database", "a", SubnetId=subnet, PrivateIpAddress="10.0.3.11")
    return [
        one["InstanceId"]
        for address, place in (("10.0.2.77", beside), ("10.0.3.11", subnet))
        for one in instances(subnet_id=place)
        if one["PrivateIpAddress"] == address
    ]


def test_an_instance_that_is_tagged_as_a_host_is_none_and_is_named(cloud, rogue):  # noqa: F811
    done = run(cloud, BIN / "ansible-inventory", "--inventory", "inventories/aws", "--list")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    for instance in rogue:
        assert instance not in done.stdout and f"{instance} in {EC2} is tagged as a host" in said
    assert sorted(inventory(cloud, "--list")["database"]["hosts"]) == [f"{letter}-db{number}" for letter in "ab" for number in (1, 2, 3)]


def test_a_host_at_the_same_address_of_another_network_is_not_powered_off(cloud, rogue):  # noqa: F811
    assert fence(cloud, "--region", EC2, "a-db3").returncode == 0
    assert now(rogue[1]) == "running"


def test_two_networks_that_claim_to_be_ours_are_none(cloud):  # noqa: F811
    ec2 = client("ec2", EC2)
    ours = [{"ResourceType": "vpc", "Tags": [{"Key": "Project", "Value": "dob-api"}]}]
    second = ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=ours)["Vpc"]["VpcId"]
    try:
        done = fence(cloud, "--region", EC2, "a-db2")
        assert done.returncode != 0 and "there should be one network" in done.stderr
    finally:
        ec2.delete_vpc(VpcId=second)


def test_a_host_that_was_terminated_is_proved_off_by_its_name_alone(cloud):  # noqa: F811
    ec2 = client("ec2", EC2)
    ec2.terminate_instances(InstanceIds=[at("10.0.2.11")["InstanceId"]])
    done = fence(cloud, "--region", EC2, "a-db2")
    assert done.returncode == 0 and done.stdout.endswith("is terminated\n"), done.stderr
