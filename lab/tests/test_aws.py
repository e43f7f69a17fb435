"""What the playbooks know of hosts in the cloud is what they know of hosts here. An emulator answers for the cloud."""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import urllib.request

import boto3
import botocore.config
import pytest
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT_ID
from moto.server import ThreadedMotoServer

from lab.hosts import credentials, permissions, plan
from tools import TOP, regions

BIN = pathlib.Path(sys.prefix) / "bin"
ANSIBLE = TOP / "ansible"
REGIONS = {regions.NAMES[letter]: (letter, network) for letter, network in plan.NETWORKS.items()}
SECRETS = [f"{name}-password" for name in ("patroni-superuser", "patroni-replication", "patroni-rewind", "database")]
SECRETS += [f"pgbackrest-cipher-{letter}" for letter, _ in REGIONS.values()]
# What tells where the hosts are, and the settings of service hosts, which images make there.
# A host of a cloud has its memory for itself.
HERE = {"ansible_host", "ansible_user", "ansible_ssh_common_args", "service_apt_url", "service_apt_key", "postgresql_memory_mb"}


@pytest.fixture(scope="module")
def cloud():
    """The environment of an operator before two regions with database hosts and their secrets."""
    permissions.enforce()
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # What the emulator keeps belongs to the process: another module that had this fixture left its regions there.
    urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", b"").close()
    files = {"DOB_API_CA_FILE": "/ca.crt", "DOB_API_CA_KEY_FILE": "/ca.key"}
    keys = {"AWS_ACCESS_KEY_ID": "operator", "AWS_SECRET_ACCESS_KEY": "operator", "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": "/nonexistent", "ANSIBLE_LOCAL_TEMP": "/tmp", **files, **keys}
    # Programs run as the role of their workflow, and the tests as an administrator.
    environment["AWS_ACCESS_KEY_ID"] = "database"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        for region, (letter, network) in REGIONS.items():
            found(region, letter, network)
        yield environment
    server.stop()


def found(region, letter, network):
    """Makes what Terraform and a deploy make of a region, as far as playbooks see it."""
    ec2, ssm = client("ec2", region), client("ssm", region)
    ours = [{"ResourceType": "vpc", "Tags": [{"Key": "Project", "Value": "dob-api"}]}]
    vpc = ec2.create_vpc(CidrBlock=f"{network}.0.0/16", TagSpecifications=ours)["Vpc"]["VpcId"]
    for number, zone in enumerate("abc", 1):
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"{network}.{number}.0/24", AvailabilityZone=region + zone)["Subnet"]["SubnetId"]
        launch(ec2, f"{letter}-db{number}", "database", letter, SubnetId=subnet, PrivateIpAddress=f"{network}.{number}.11")
        if number == 1:
            launch(ec2, f"{letter}-monitor", "monitoring", letter, SubnetId=subnet, PrivateIpAddress=f"{network}.1.31")
    launch(ec2, f"{letter}-app", "service", letter)
    for name in SECRETS:
        ssm.put_parameter(Name=f"/dob-api/{name}", Value=f"{name} of {letter}", Type="SecureString")


def launch(ec2, name, role, region, **place):
    tags = {"Project": "dob-api", "Role": role, "Region": region, "Name": f"dob-api-{name}"}
    given = [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]
    ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, TagSpecifications=given, **place)


def client(service, region):
    # One attempt: a network that is made twice, as the emulator was slow, is one too many.
    patient = botocore.config.Config(read_timeout=600, retries={"total_max_attempts": 1})
    return boto3.client(service, region_name=region, config=patient)


def run(cloud, command, *arguments):
    done = [str(part) for part in (command, *arguments)]
    return subprocess.run(done, env=cloud, cwd=ANSIBLE, capture_output=True, text=True, timeout=300)


def inventory(cloud, *arguments):
    done = run(cloud, BIN / "ansible-inventory", "--inventory", "inventories/aws", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_cloud_has_the_groups_and_variables_that_the_playbooks_know_from_here(cloud, cluster):
    known = inventory(cloud, "--list")
    databases = {letter: [f"{letter}-db{number}" for number in (1, 2, 3)] for letter, _ in REGIONS.values()}
    monitors = [f"{letter}-monitor" for letter in databases]
    assert sorted(known["monitoring"]["hosts"]) == monitors
    assert {letter: sorted(set(known[f"region_{letter}"]["hosts"]) - set(monitors)) for letter in databases} == databases
    assert sorted(known["database"]["hosts"]) == sorted(itertools.chain(*databases.values()))
    assert "service" not in known
    local = json.loads(cluster.inventory.joinpath("hosts.yml").read_text())["all"]
    here = set(local["vars"]) | set(next(iter(local["children"]["database"]["hosts"].values()))) | set(credentials.PASSWORDS)
    assert here - HERE <= set(inventory(cloud, "--host", "b-db2"))


def test_a_hosts_variables_come_from_its_tags_its_place_and_its_regions_parameter_store(cloud):
    wanted = ["region", "zone", "address", "ansible_host", "patroni_superuser_password", "service_database_password", "region_databases"]
    wanted += ["pgbackrest_repositories"]
    message = f"msg={{{{ [{', '.join(wanted)}] | to_json }}}}"
    said = run(cloud, BIN / "ansible", "b-db2", "-i", "inventories/aws", "--playbook-dir", ".", "-o", "-m", "debug", "-a", message)
    assert said.returncode == 0, said.stdout + said.stderr
    values = dict(zip(wanted, json.loads(json.loads(said.stdout.partition("=>")[2])["msg"]), strict=True))
    assert values == {
        "region": "b",
        "zone": "eu-central-1b",
        "address": "10.1.2.11",
        "ansible_host": "10.1.2.11",
        "patroni_superuser_password": "patroni-superuser-password of b",
        "service_database_password": "database-password of b",
        "region_databases": ["b-db1", "b-db2", "b-db3"],
        "pgbackrest_repositories": {
            letter: {"bucket": f"dob-api-backup-{ACCOUNT_ID}-{name}", "s3_region": name, "cipher_pass": f"pgbackrest-cipher-{letter} of b"}
            for name, (letter, _) in REGIONS.items()
        },
    }


def test_a_monitoring_host_tells_the_topic_of_its_region(cloud):
    asked = ("-i", "inventories/aws", "--playbook-dir", ".", "-o", "-m", "debug", "-a", "msg={{ monitoring_receivers | to_json }}")
    said = run(cloud, BIN / "ansible", "b-monitor", *asked)
    assert said.returncode == 0, said.stdout + said.stderr
    told = json.loads(json.loads(said.stdout.partition("=>")[2])["msg"])
    assert told == {"sns_topic": f"arn:aws:sns:eu-central-1:{ACCOUNT_ID}:dob-api-b-alarms"}


def test_site_needs_no_service_hosts(cloud):
    listed = run(cloud, BIN / "ansible-playbook", "-i", "inventories/aws", "site.yml", "--list-hosts")
    assert listed.returncode == 0, listed.stderr
    assert "a-db1" in listed.stdout and "a-app" not in listed.stdout


def fence(cloud, *arguments):
    return run(cloud, sys.executable, ANSIBLE / "fence-instance", *arguments)


def state(region, name):
    found = client("ec2", region).describe_instances(Filters=[{"Name": "tag:Name", "Values": [f"dob-api-{name}"]}])
    return found["Reservations"][0]["Instances"][0]["State"]["Name"]


def test_a_fenced_instance_is_off_and_stays_in_the_inventory(cloud):
    assert state("eu-west-1", "a-db3") == "running"
    done = fence(cloud, "--region", "eu-west-1", "a-db3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("is stopped\n")
    assert state("eu-west-1", "a-db3") == "stopped"
    assert fence(cloud, "--region", "eu-west-1", "a-db3").returncode == 0
    assert "a-db3" in inventory(cloud, "--list")["region_a"]["hosts"]


@pytest.mark.parametrize(
    ("arguments", "changed", "reason"),
    [
        (["--region", "eu-central-1", "a-db1"], {}, "there is no host 'a-db1' in eu-central-1"),
        (["--region", "eu-west-1", "a-db1"], {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "was not fenced: Could not connect"),
        (["a-db1"], {}, "the following arguments are required: --region"),
    ],
)
def test_what_cannot_be_proved_is_not_called_off(cloud, arguments, changed, reason):
    done = fence(cloud | changed, *arguments)
    assert done.returncode != 0
    assert reason in done.stderr
    assert state("eu-west-1", "a-db1") == "running"
