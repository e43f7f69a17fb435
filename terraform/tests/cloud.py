"""The configuration in a folder of its own, and the emulator that it is applied to."""

import functools
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import boto3

from tools import regions

HERE = pathlib.Path(__file__).resolve().parent
ROOTS = ("bootstrap", "global", "primary", "failover")
MODULES = ("modules/bucket", "modules/region")
REGIONS = regions.NAMES
PROVIDER = "registry.terraform.io/hashicorp/aws/5.100.0"
DEBIAN = "ami-0deb1300000000001"
IMAGE, NEW_IMAGE = "ami-0deb1300000000002", "ami-0deb1300000000003"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL1008J5Q+osFlXiE38DgKS5AMhFd3YHq9ljTtpsR2J+ operator"


class Failed(Exception):
    """A command that failed, with what it said."""


def run(*command, cwd=HERE, env=None, timeout=900, check=True):
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, timeout=timeout, text=True, capture_output=True)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-8000:]}")
    return done


@functools.cache
def provider_settings(folder):
    """Lets terraform take the provider from this machine if it is here; else it comes from the registry, once."""
    found = run("find", "/", "-xdev", "-maxdepth", "6", "-type", "d", "-path", f"*/{PROVIDER}", "-not", "-path", "*/.terraform/*", check=False)
    if not found.stdout:
        return fetch_provider(folder)
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


def fetch_provider(folder):
    """Brings the provider into a cache that all roots share: to be done before several ask for it, as it is not guarded."""
    settings = {"TF_PLUGIN_CACHE_DIR": os.environ["INFRA_PROVIDERS"]}
    os.makedirs(settings["TF_PLUGIN_CACHE_DIR"], exist_ok=True)
    for name in ("versions.tf", ".terraform.lock.hcl"):
        shutil.copy(HERE.parent / "bootstrap" / name, folder)
    run("terraform", "init", "-backend=false", "-lockfile=readonly", cwd=folder, env=os.environ | settings)
    return settings


class Configuration:
    """A copy of the configuration, in which terraform may leave what it likes."""

    def __init__(self, folder, extra=None):
        self.top = folder / "terraform"
        ignored = shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfvars", "*_override.tf", "backend.hcl", "__pycache__")
        shutil.copytree(HERE.parent, self.top, ignore=ignored)
        shutil.copy(HERE.parents[1] / "regions.json", folder)
        # What signs certificates: `secrets` takes it from there.
        shutil.copytree(HERE.parents[1] / "ansible/filter_plugins", folder / "ansible/filter_plugins", ignore=ignored)
        # Much of a command's time is its start, in which the provider describes itself: it need not be careful with memory.
        settings = {"TF_IN_AUTOMATION": "1", "TF_CLI_ARGS": "-no-color", "CHECKPOINT_DISABLE": "1", "GOGC": "400"}
        self.env = os.environ | settings | provider_settings(folder.parent) | (extra or {})

    def environment(self, root):
        # What a root asks for is told apart by this in the emulator's log.
        path_style = {} if root == "bootstrap" else {"TF_CLI_ARGS_init": "-backend-config=use_path_style=true"}
        return self.env | path_style | {"TF_APPEND_USER_AGENT": f"root/{root}"}

    def terraform(self, folder, *arguments):
        return run("terraform", f"-chdir={folder}", *arguments, cwd=self.top, env=self.environment(folder)).stdout

    def infra(self, command, root, *flags):
        """What a person types: ./dev infra COMMAND ROOT."""
        return run(self.top / "infra", command, root, *flags, cwd=self.top, env=self.environment(root)).stdout

    def set(self, root, **settings):
        (self.top / root / "terraform.tfvars.json").write_text(json.dumps(settings))

    def state(self, root):
        return self.terraform(root, "state", "pull")

    def output(self, root, name):
        return json.loads(self.state(root))["outputs"][name]["value"]

    def plan(self, root, *flags):
        """What an apply would do, and all that there would be."""
        self.terraform(root, "plan", "-input=false", "-lock=false", "-out=it.plan", *flags)
        return json.loads(self.terraform(root, "show", "-json", "it.plan"))


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
        self.log_file = folder / "emulator.log"
        self.log = self.log_file.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-B", HERE / "emulator.py", str(port)], env=os.environ | settings, stdout=self.log, stderr=self.log
        )
        end = time.monotonic() + 600
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                raise Failed(f"the emulator does not answer:\n{self.log_file.read_text()[-2000:]}")
            time.sleep(0.2)

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.url}/moto-api/", timeout=2).status == 200
        except OSError:
            return False

    def used(self, role, what="used by"):
        """What the role of a workflow has asked for so far: pairs of action and resource."""
        return set(re.findall(rf"^{what} {role}: (\S+) (\S+)$", self.log_file.read_text(), re.M))

    def asked(self, root):
        """What a root has asked for so far: pairs of region and service."""
        return set(re.findall(rf"^asked by {root}: (\S+) (\S+)$", self.log_file.read_text(), re.M))

    def client(self, service, region, key="test"):
        options = {"endpoint_url": self.url, "aws_access_key_id": key, "aws_secret_access_key": "test"}
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


def of(resources, kind):
    found = [one["values"] for one in resources if one["type"] == kind and one["mode"] == "managed"]
    assert found, f"there is no {kind} to look at"
    return found
