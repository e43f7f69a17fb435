"""What the playbooks know of the applied infrastructure, by their own inventory."""

import json
import pathlib

import pytest

import cloud

TOP = cloud.HERE.parents[1]
WANTED = ("region", "zone", "address", "ansible_host", "service_database_password", "patroni_superuser_password", "pgbackrest_repositories")


@pytest.fixture(scope="module")
def ansible(applied, secrets):
    """Runs a command of Ansible as an operator would, before the emulator."""
    tools = pathlib.Path(cloud.run(TOP / "tools/venv", "cluster", "lab/requirements.txt").stdout.strip()) / "bin"
    files = {"DOB_API_CA_FILE": "/ca.crt", "DOB_API_CA_KEY_FILE": "/ca.key", "ANSIBLE_DEPRECATION_WARNINGS": "false"}
    return lambda command, *rest: cloud.run(tools / command, "-i", "inventories/aws", *rest, cwd=TOP / "ansible", env=applied.env | files).stdout


@pytest.fixture(scope="module")
def hosts(applied):
    """The hosts of both regions, as the outputs name them."""
    return {name: applied.output(root, "hosts") for name, root in (("a", "primary"), ("b", "failover"))}


def test_hosts_stand_where_the_playbooks_and_the_other_region_expect_them(hosts):
    for name, network in (("a", "10.0"), ("b", "10.1")):
        assert {host: one["address"] for host, one in hosts[name].items()} == {
            **{f"dob-api-{name}-db{zone}": f"{network}.{zone}.11" for zone in (1, 2, 3)},
            f"dob-api-{name}-monitor": f"{network}.1.31",
        }
        assert len({one["zone"] for one in hosts[name].values() if one["role"] == "database"}) == 3


def test_the_playbooks_find_every_host_in_its_groups(ansible, hosts):
    # Ansible marks what the cloud said.
    known = json.loads(ansible("ansible-inventory", "--list"), object_hook=lambda found: found.get("__ansible_unsafe", found))
    for name, found in hosts.items():
        assert set(known[f"region_{name}"]["hosts"]) == set(found)
        for host, one in found.items():
            assert host in known[one["role"]]["hosts"]
            assert known["_meta"]["hostvars"][host]["ec2_private_ip_address"] == one["address"]
    assert len(known["database"]["hosts"]) == 6 and len(known["monitoring"]["hosts"]) == 2


@pytest.mark.parametrize("name", cloud.REGIONS)
def test_a_database_host_has_its_place_its_passwords_and_its_buckets(applied, ansible, hosts, secrets, name):
    host = f"dob-api-{name}-db2"
    asked = f"msg={{{{ [{', '.join(WANTED)}] | to_json }}}}"
    said = ansible("ansible", host, "--playbook-dir", ".", "-o", "-m", "debug", "-a", asked)
    known = dict(zip(WANTED, json.loads(json.loads(said.partition("=>")[2])["msg"]), strict=True))
    stored = secrets[cloud.REGIONS[name]]
    assert known == {
        "region": name,
        "zone": hosts[name][host]["zone"],
        "address": hosts[name][host]["address"],
        "ansible_host": hosts[name][host]["address"],
        "service_database_password": stored["/dob-api/database-password"],
        "patroni_superuser_password": stored["/dob-api/patroni-superuser-password"],
        "pgbackrest_repositories": {
            letter: {
                "bucket": applied.output(root, "buckets")["backup"],
                "s3_region": cloud.REGIONS[letter],
                "cipher_pass": stored[f"/dob-api/pgbackrest-cipher-{letter}"],
            }
            for letter, root in (("a", "primary"), ("b", "failover"))
        },
    }
