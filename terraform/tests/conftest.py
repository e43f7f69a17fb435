"""What the tests share: the configuration as it stands, and all roots applied to the emulator."""

import concurrent.futures
import json
import re
import sys

import pytest

import cloud
from ami.versions import Versions


def pytest_configure(config):
    config.addinivalue_line("markers", "long: not in the short form, which runs where nothing is named")


def pytest_collection_modifyitems(items):
    """What looks at the configuration goes first: an apply, which mostly waits, is on its way meanwhile."""
    items.sort(key=lambda item: "applied" in item.fixturenames)


@pytest.fixture(scope="session")
def configuration(tmp_path_factory):
    """Every root and module, ready to be looked at without a cloud."""
    made = cloud.Configuration(tmp_path_factory.mktemp("configuration"))
    for folder in (*cloud.ROOTS, *cloud.MODULES):
        flags = ["-lockfile=readonly"] if folder in cloud.ROOTS else []
        made.terraform(folder, "init", "-backend=false", *flags)
    return made


# Nobody but the tests changes what is in the emulator: where nothing can have changed, there is no look at it.
UNCHANGED = "-refresh=false"


class Applied(cloud.Configuration):
    """All roots on the emulator, in the order that the README gives."""

    def __init__(self, folder):
        self.emulator = cloud.Emulator(folder)
        super().__init__(folder, self.emulator.env)
        for root in cloud.ROOTS:
            (self.top / root / "emulator_override.tf").write_text('provider "aws" {\n  max_retries = 4\n}\n')
        self.workers = concurrent.futures.ThreadPoolExecutor(2)
        # By root, the workflow whose role runs Terraform there; an administrator where none is named.
        self.roles = {}

    def environment(self, root):
        named = {"AWS_ACCESS_KEY_ID": self.roles[root]} if root in self.roles else {}
        return super().environment(root) | named

    def apply(self, root, *flags, **settings):
        if settings:
            self.set(root, **settings)
        self.infra("apply", root, "-auto-approve", "-input=false", *flags)

    def each(self, action, *roots):
        """Does something to several roots, two at a time, and returns what came of it by root."""
        return dict(zip(roots, self.workers.map(action, roots), strict=True))

    def apply_all(self):
        # A root mostly waits, for the cloud to have spread what was written: that is what makes the time.
        self.apply("bootstrap")
        self.apply("global", domain="dob.example.com", repository="owner/dob-api")
        settings = {"domain": "dob.example.com", "ssh_key": cloud.KEY, "image": cloud.IMAGE}
        self.each(lambda root: self.apply(root, **settings), "primary", "failover")
        self.apply("failover", UNCHANGED, **settings, peering=self.output("primary", "vpc_id"))
        self.apply("primary", UNCHANGED, **settings, peering=self.output("failover", "peering_id"))
        return self

    def roll_out(self, root, region, image):
        """What the deploy does: makes a version with its image, gives it to the group, and has more hosts for a while."""
        service = self.output(root, "service")
        ec2, scaling = (self.emulator.client(kind, region) for kind in ("ec2", "autoscaling"))
        made = Versions(ec2, service["launch_template"]).make(image)
        version = {"LaunchTemplateId": service["launch_template"], "Version": str(made)}
        scaling.update_auto_scaling_group(AutoScalingGroupName=service["group"], LaunchTemplate=version, DesiredCapacity=4)

    def group(self, region):
        (found,) = self.emulator.client("autoscaling", region).describe_auto_scaling_groups()["AutoScalingGroups"]
        return found

    def settle_secrets(self):
        """Has the secrets made that are missing, and returns those of each region."""
        authority, key = self.top / "ca.crt", self.top / "ca.key"
        if not key.exists():
            cloud.run("sh", "-euc", self.authority(), cwd=self.top)
        cloud.run(sys.executable, self.top / "secrets", "--ca", authority, "--ca-key", key, env=self.env)
        return {region: dict(self.parameters(region)) for region in cloud.REGIONS.values()}

    @staticmethod
    def authority():
        """The command of the README that makes one."""
        return re.search(r"`(openssl req .*?)`", (cloud.HERE.parent / "README.md").read_text())[1]

    def parameters(self, region):
        for page in self.emulator.client("ssm", region).get_paginator("get_parameters_by_path").paginate(Path="/dob-api", WithDecryption=True):
            for one in page["Parameters"]:
                assert one["Type"] == "SecureString"
                yield one["Name"], one["Value"]

    def close(self):
        self.workers.shutdown(cancel_futures=True)
        self.emulator.close()


@pytest.fixture(scope="session", autouse=True)
def applying(request, tmp_path_factory):
    """Begins to apply at once, if a test needs it, while others look at the configuration."""
    if not any("applied" in item.fixturenames for item in request.session.items):
        yield None
        return
    made = Applied(tmp_path_factory.mktemp("applied"))
    with concurrent.futures.ThreadPoolExecutor(1) as worker:
        try:
            yield worker.submit(made.apply_all)
        finally:
            made.close()


@pytest.fixture(scope="session")
def applied(applying):
    return applying.result()


@pytest.fixture(scope="session")
def secrets(applied):
    """The secrets of each region, as the deploy makes them."""
    return applied.settle_secrets()


@pytest.fixture(scope="session")
def plans(applied):
    """The plan of each root as it was applied, and of the primary region after a roll-out too."""
    applied.roll_out("primary", "eu-west-1", cloud.NEW_IMAGE)
    return applied.each(applied.plan, *cloud.ROOTS)


@pytest.fixture(scope="session")
def full(applied):
    """Names the file of settings with which a region has everything that can be asked for."""
    containers = {"image": f"r/dob-api@sha256:{'0' * 64}", "weight": 30}
    settings = {"nat": True, "rate_limit": 2000, "alarm_email": "ops@example.com", "size": "medium", "ecs": containers}
    (applied.top / "primary/full.tfvars.json").write_text(json.dumps(settings))
    return "-var-file=full.tfvars.json"


@pytest.fixture(scope="session")
def full_plan(applied, full):
    """The plan of a region with everything."""
    return applied.plan("primary", UNCHANGED, full)


@pytest.fixture(scope="session", params=["primary", "failover", "full"])
def region(request):
    """All that there is in a region."""
    plan = request.getfixturevalue("full_plan") if request.param == "full" else request.getfixturevalue("plans")[request.param]
    return list(cloud.resources(plan["planned_values"]["root_module"]))


@pytest.fixture(scope="session")
def everything(plans, full_plan):
    """All that there is in any root."""
    return [one for plan in (*plans.values(), full_plan) for one in cloud.resources(plan["planned_values"]["root_module"])]
