"""What ./dev infra check reports about an account: that it would take what the settings describe, or what to do first."""

import json
import re
import shutil
import sys
import urllib.request

import pytest

import cloud

KEY = cloud.KEY
DOMAIN = "dob.example.com"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    made = cloud.Emulator(tmp_path_factory.mktemp("account"))
    yield made
    made.close()


@pytest.fixture
def account(emulator):
    """A new account, as the emulator has it."""
    urllib.request.urlopen(urllib.request.Request(f"{emulator.url}/moto-api/reset", method="POST"), timeout=60)
    raise_quota(emulator, 5)
    return emulator


@pytest.fixture
def check(account, tmp_path):
    """Asks the account, with settings by root and the name servers that the world knows of the domain."""
    top = tmp_path / "project"
    for name in ("check", "modules/region/sizes.json"):
        (top / "terraform" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cloud.HERE.parent / name, top / "terraform" / name)
    shutil.copy(cloud.HERE.parents[1] / "regions.json", top)
    tools = tmp_path / "bin"
    tools.mkdir()

    def run(servers=(), **settings):
        for root in ("global", "primary", "failover"):
            (top / "terraform" / root).mkdir(exist_ok=True)
            given = {"domain": DOMAIN} if root == "global" else {"domain": DOMAIN, "ssh_key": KEY} | settings
            (top / "terraform" / root / "terraform.tfvars").write_text("".join(f'{name} = "{value}"\n' for name, value in given.items()))
        (tools / "dig").write_text("#!/bin/sh\n" + "".join(f"echo {server}.\n" for server in servers))
        (tools / "dig").chmod(0o755)
        environment = account.env | {"PATH": f"{tools}:/usr/bin:/bin"}
        done = cloud.run(sys.executable, "-B", top / "terraform/check", env=environment, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def raise_quota(account, value):
    for region in cloud.REGIONS.values():
        quotas = account.client("service-quotas", region)
        quotas.request_service_quota_increase(ServiceCode="ec2", QuotaCode="L-1216C47A", DesiredValue=value)


def zone(account, **config):
    made = account.client("route53", "us-east-1").create_hosted_zone(Name=DOMAIN, CallerReference=repr(config), HostedZoneConfig=config)
    return made["HostedZone"]["Id"].rsplit("/", 1)[-1], made["DelegationSet"]["NameServers"]


def test_a_new_account_is_told_what_to_ask_for(check):
    done = check()
    assert done.returncode == 1
    for region in cloud.REGIONS.values():
        assert f"NO  {region}: 16 processors are needed during a roll-out, 0 are others', and the quota is 5: ask for more" in done.stdout
        assert f"request-service-quota-increase --region {region} --service-code ec2 --quota-code L-1216C47A --desired-value 32" in done.stdout
    assert "'./dev infra apply global' makes the zone" in done.stdout


def test_an_account_that_takes_it_is_told_so(account, check):
    raise_quota(account, 32)
    _, servers = zone(account, Comment="dob-api")
    done = check(servers)
    assert done.returncode == 0 and "NO" not in done.stdout, done.stdout


def test_processors_of_others_count(account, check):
    raise_quota(account, 16)
    account.client("ec2", "eu-central-1").run_instances(ImageId=cloud.DEBIAN, InstanceType="t3.micro", MinCount=1, MaxCount=1)
    said = check().stdout
    assert re.search("^ok  eu-west-1: 16 processors .*, 0 are others'", said, re.M)
    assert re.search("^NO  eu-central-1: 16 processors .*, [1-9] are others', and the quota is 16: ask for more", said, re.M)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"image": "ami-0123456789abcdef0"}, "our image ami-0123456789abcdef0 for x86_64: it is not there"),
        ({"image": cloud.DEBIAN, "architecture": "arm64"}, f"our image {cloud.DEBIAN} for arm64: it is x86_64"),
        ({"ssh_key": "ssh-rsa AAAA"}, "ssh_key is missing in the settings, or no public key"),
    ],
)
def test_a_setting_that_would_fail_is_named(account, check, settings, told):
    raise_quota(account, 100)
    done = check(**settings)
    assert done.returncode == 1 and told in done.stdout, done.stdout


def test_another_key_than_that_of_the_hosts_is_named(account, check):
    account.client("ec2", "eu-west-1").import_key_pair(KeyName="dob-api-a", PublicKeyMaterial=KEY.replace("IL1008J5", "IL1008J6").encode())
    said = check().stdout
    assert "NO  eu-west-1: the key pair dob-api-a has another key" in said or "ok  eu-west-1: the key pair" in said
    assert "ok  eu-central-1: the key pair" in said


def test_a_second_zone_of_the_name_is_named_with_the_way_out(account, check):
    foreign, servers = zone(account, Comment="HostedZone created by Route53 Registrar")
    said = check(servers).stdout
    assert f"NO  the domain: there is another zone {DOMAIN} in this account, {foreign}" in said
    assert f"./dev infra import global aws_route53_zone.this {foreign}" in said


@pytest.mark.parametrize("servers", [(), ("ns.elsewhere.example",)])
def test_a_domain_that_leads_elsewhere_is_named_with_the_servers_to_enter(account, check, servers):
    _, wanted = zone(account, Comment="dob-api")
    said = check(servers).stdout
    assert f"the world knows {servers[0] if servers else 'none'}: enter {', '.join(sorted(wanted))}" in said, said


def test_the_readme_has_the_numbers_of_the_settings():
    """A table of processors by size, computed again."""
    sizes = json.loads((cloud.HERE.parent / "modules/region/sizes.json").read_text())
    count, rows = sizes["processors"], {}
    for name, size in sizes["sizes"].items():
        kept, host = 3 * count[size["database"]] + count[size["monitoring"]], count[size["service"]]
        least, most = size["hosts"]
        rows[name] = [kept, kept + least * host, kept + 2 * least * host, kept + 2 * most * host]
    readme = (cloud.HERE.parent / "README.md").read_text()
    told = {name: [int(number) for number in numbers.split("|")] for name, numbers in re.findall(r"^\| `(\w+)` \| ([\d |]+\d) \|$", readme, re.M)}
    assert told == rows
