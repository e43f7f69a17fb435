"""The configuration in a folder of its own, and the emulator that it is applied to."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import boto3

HERE = pathlib.Path(__file__).resolve().parent
ROOTS = ("bootstrap", "global", "primary", "failover")
MODULES = ("modules/bucket", "modules/region")
REGIONS = {"a": "eu-west-1", "b": "eu-central-1"}
PROVIDER = "registry.terraform.io/hashicorp/aws/5.100.0"
IMAGE = "ami-0deb1300000000002"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL1008J5Q+osFlXiE38DgKS5AMhFd3YHq9ljTtpsR2J+ operator"


class Failed(Exception):
    """A command that failed, with what it said."""


def run(*command, cwd=HERE, env=None, timeout=900, check=True):
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, timeout=timeout, text=True, capture_output=True)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-8000:]}")
    return done


def provider_settings(folder):
    """Lets terraform take the provider from this machine if it is here; else it comes from the registry."""
    found = run("find", "/", "-xdev", "-maxdepth", "6", "-type", "d", "-path", f"*/{PROVIDER}", "-not", "-path", "*/.terraform/*", check=False)
    if not found.stdout:
        return {}
    mirror = found.stdout.splitlines()[0].removesuffix(PROVIDER)
    file = folder / "terraform.rc"
    file.write_text(f"""provider_installation {{
  filesystem_mirror {{
    path    = "{mirror}"
    include = ["hashicorp/aws"]
  }}
  direct {{
    exclude = ["hashicorp/aws"]
  }}
}}
""")
    return {"TF_CLI_CONFIG_FILE": str(file)}


class Configuration:
    """A copy of the configuration, in which terraform may leave what it likes."""

    def __init__(self, folder, extra=None):
        self.top = folder / "terraform"
        ignored = shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfvars", "*_override.tf", "backend.hcl", "__pycache__")
        shutil.copytree(HERE.parent, self.top, ignore=ignored)
        # The emulator is one process: more at once only makes it answer later.
        settings = {"TF_IN_AUTOMATION": "1", "TF_CLI_ARGS": "-no-color", "TF_CLI_ARGS_apply": "-parallelism=6", "CHECKPOINT_DISABLE": "1"}
        self.env = os.environ | settings | provider_settings(folder) | (extra or {})

    def terraform(self, folder, *arguments, **options):
        return run("nice", "terraform", f"-chdir={folder}", *arguments, cwd=self.top, env=self.env, **options).stdout

    def infra(self, command, root, *flags, **options):
        """What a person types: ./dev infra COMMAND ROOT."""
        env = self.env if root == "bootstrap" else self.env | {"TF_CLI_ARGS_init": "-backend-config=use_path_style=true"}
        return run("nice", self.top / "infra", command, root, *flags, cwd=self.top, env=env, **options).stdout

    def set(self, root, **settings):
        (self.top / root / "terraform.tfvars.json").write_text(json.dumps(settings))

    def output(self, root, name):
        return json.loads(self.infra("output", root, "-json", name))

    def plan(self, root, *flags):
        """What an apply would do, and all that there would be."""
        self.infra("plan", root, "-input=false", "-lock=false", "-out=it.plan", *flags)
        return json.loads(self.infra("show", root, "-json", "it.plan"))


class Emulator:
    """The cloud's interface on a free port, until it is closed."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.env = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        settings = {"MOTO_AMIS_PATH": str(HERE / "images.json"), "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
        self.log = (folder / "emulator.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-B", HERE / "emulator.py", str(port)], env=os.environ | settings, stdout=self.log, stderr=self.log
        )
        end = time.monotonic() + 120
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                raise Failed(f"the emulator does not answer:\n{(folder / 'emulator.log').read_text()[-2000:]}")
            time.sleep(0.2)

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.url}/moto-api/", timeout=2).status == 200
        except OSError:
            return False

    def client(self, service, region):
        options = {"endpoint_url": self.url, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, region_name=region, **options)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def resources(module):
    """All resources of a module as planned, and of those within it."""
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from resources(child)
