"""The README's way from an empty account to a greeting, taken from its text: what a reader types and writes into files, in their order."""

import re
import sys

import cloud
from conftest import Applied

TOP = cloud.HERE.parents[1]
README = (cloud.HERE.parent / "README.md").read_text()
TEXT = re.search(r"^## From an empty account.*?^(1\. .*?)^\S*Until", README, re.M | re.S)[1]
STEPS = [re.sub(r"\s+", " ", step) for step in re.split(r"^\d+\. ", TEXT, flags=re.M)[1:]]
# What is not run here, and why.
ELSEWHERE = {
    "./dev infra import": "only where the domain was registered in the account; test_readme",
    "./dev play": "there are no hosts; the cluster of this machine plays it, and test_inventory finds the hosts",
    "curl": "nothing is booted; the image's own tests greet",
    "dig": "the emulator leads no name to a zone; a program in its place says that the registrar did",
}
SETTING = re.compile(r'^(\w+) = ("[^"]*"|true)$')


def typed(step):
    """The commands of a step, and the settings that it names, as they come."""
    return re.findall(r"`([^`]+)`", step)


class Way(Applied):
    """One walk, in an account of its own."""

    def __init__(self, folder):
        super().__init__(folder)
        self.done, self.images = [], {}
        tools = folder / "bin"
        tools.mkdir()
        self.env["PATH"] = f"{tools}:{self.env['PATH']}"
        self.dig = tools / "dig"

    def settings(self, root):
        return self.top / root / "terraform.tfvars"

    def write(self, root, line):
        """A line of a root's settings, in the place of one of this name."""
        file = self.settings(root)
        kept = [old for old in (file.read_text().splitlines() if file.exists() else []) if old.split(" ")[0] != line.split(" ")[0]]
        file.write_text("\n".join([*kept, line, ""]))

    def walk(self):
        for step in STEPS:
            self.take(step)
        return self

    def take(self, step):
        """Does what a step says: first what it has its reader write, unless a command stands before."""
        root = next(iter(re.findall(r"`terraform/(\w+)/terraform.tfvars`", step)), None)
        if joined := re.findall(r"`peering = \"\w+-…\"`, of `\./dev infra output (\w+) (\w+)`, to (\w+)'s", step):
            for source, output, target in joined:
                value = self.infra("output", source, output).strip().strip('"')
                self.write(target, f'peering = "{value}"')
                self.done += [f"./dev infra output {source} {output}"]
                self.apply(target)
            return
        for text in typed(step):
            if setting := SETTING.match(text):
                self.set_down(root, setting[0])
            elif text == "domain" and root:
                self.write(root, next(line for line in self.settings("global").read_text().splitlines() if line.startswith("domain")))
            elif text == "failover/":
                self.settings("failover").write_text(self.settings(root).read_text())
            elif text == "nat" and "take" in step:
                for name in ("primary", "failover"):
                    self.settings(name).write_text(re.sub(r"^nat.*\n", "", self.settings(name).read_text(), flags=re.M))
            else:
                self.type(text)
        if "apply both" in step:
            self.each(self.apply, "primary", "failover")

    def set_down(self, root, line):
        """A setting as the reader completes it."""
        if "ssh-ed25519 …" in line:
            line = f'ssh_key = "{(self.top / "dob-api-key.pub").read_text().strip()}"'
        if "ami-…" in line:
            for name, region in (("primary", "eu-west-1"), ("failover", "eu-central-1")):
                self.write(name, f'image = "{self.images[region]}"')
        elif root:
            self.write(root, line)

    def type(self, text):
        """A command, as it is typed."""
        if any(text.startswith(command) for command in ELSEWHERE):
            self.done += [text]
            return
        words = text.split()
        if text.startswith("./dev infra check"):
            self.check()
        elif text.startswith("./dev infra secrets"):
            self.secrets()
        elif text.startswith("./dev infra apply"):
            self.apply(words[3])
            # From then on by the role that it made.
            self.roles |= dict.fromkeys(("global", "primary", "failover"), "infra") if words[3] == "global" else {}
        elif text.startswith("./dev infra output"):
            self.answer_for_the_domain(self.infra("output", *words[3:]))
        elif text.startswith("./dev publish"):
            self.publish("1.0.0")
        elif text.startswith("ssh-keygen"):
            cloud.run(*words, "-q", "-N", "", cwd=self.top)
        elif text.startswith("openssl"):
            cloud.run(*words, cwd=self.top)
        elif text == "aws sts get-caller-identity":
            assert self.emulator.client("sts", "eu-west-1").get_caller_identity()["Account"]
        else:
            return
        self.done += [text]

    def secrets(self):
        files = ("--ca", self.top / "ca.crt", "--ca-key", self.top / "ca.key")
        cloud.run(sys.executable, self.top / "secrets", *files, env=self.acting("database"))
        return {region: dict(self.parameters(region)) for region in cloud.REGIONS.values()}

    def check(self):
        """Until it says ok to every line, what it says is done: here, more processors are asked for."""
        if not self.settings("primary").exists():
            return
        ask = (sys.executable, "-B", self.top / "check")
        said = cloud.run(*ask, env=self.env, check=False).stdout
        for region, value in re.findall(r"--region (\S+) --service-code ec2 --quota-code L-1216C47A --desired-value (\d+)", said):
            quotas = self.emulator.client("service-quotas", region)
            quotas.request_service_quota_increase(ServiceCode="ec2", QuotaCode="L-1216C47A", DesiredValue=int(value))
        cloud.run(*ask, env=self.env)

    def answer_for_the_domain(self, said):
        servers = re.findall(r'"([^"]+)"', said)
        self.dig.write_text("#!/bin/sh\n" + "".join(f"echo {server}.\n" for server in servers))
        self.dig.chmod(0o755)

    def acting(self, role):
        """The environment of a script that runs as the role of its workflow."""
        paces = {"PUBLISH_PACE": "0.01", "ROLL_OUT_PACE": "0.01", "PYTHONPATH": str(TOP), "AWS_DEFAULT_REGION": "eu-west-1"}
        return self.env | paces | {"AWS_ACCESS_KEY_ID": role}

    def publish(self, version):
        """An image that is small, and differs from others by its name alone: no host boots it."""
        file = self.top / f"dob-api_{version}_amd64.raw"
        file.write_bytes(version.encode().ljust(1 << 20, b"\1"))
        said = cloud.run(sys.executable, "-B", TOP / "ami/publish.py", file, env=self.acting("release"), cwd=TOP).stdout
        self.images = dict(line.split() for line in said.splitlines())

    def roll_out(self, region, *arguments):
        """What the deploy does, to its end."""
        command = (sys.executable, "-B", TOP / "ami/roll_out.py", *arguments, "--region", region)
        return cloud.run(*command, env=self.acting("deploy"), cwd=TOP).stderr

    def play(self, program, region, *arguments):
        """A program that a playbook runs on the operator's machine, as the role of the databases."""
        command = (sys.executable, TOP / "ansible" / program, "--region", region, *arguments)
        return cloud.run(*command, env=self.acting("database")).stdout
