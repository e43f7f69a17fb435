"""A host without a cloud is fenced only if its power is read back as off, whatever its controller claims."""

import errno
import importlib.machinery
import importlib.util
import json
import pathlib
import subprocess
import sys
import types

import pytest

from tools import TOP

FENCE = TOP / "ansible/fence-host"
BIN = pathlib.Path(sys.prefix) / "bin"
SECRET = "secret-of-the-controller"
ADDRESS = "10.0.1.11"
NO_ROUTE = OSError(errno.EHOSTUNREACH, "no route")
KINDS = ("ipmi", "libvirt")
OFF = {"ipmi": "Chassis Power is off", "libvirt": "shut off"}
ON = {"ipmi": "Chassis Power is on", "libvirt": "running"}


class Controller:
    """A controller, or hypervisor, that lies as it is told; it refuses what the real one refuses."""

    def __init__(self, folder, kind, lie, state):
        self.kind, self.lie, self.state, self.time = kind, lie, state, 0
        self.password = folder / "password"
        self.password.write_text(SECRET)

    def words(self):
        own = ["--bmc", "10.10.1.11", "--user", "fence", "--password-file", str(self.password)]
        return [self.kind, *(own if self.kind == "ipmi" else ["--connect", "qemu+ssh://fence@10.11.1.5/system"]), "--address", ADDRESS, "a-db1"]

    def run(self, command, timeout, env, **_):
        """In the place of subprocess.run."""
        assert env["LC_ALL"] == "C" and SECRET not in " ".join(command)
        if self.lie == "missing":
            raise FileNotFoundError(command[0])
        if self.lie == "hangs":
            raise subprocess.TimeoutExpired(command, timeout)
        if self.lie == "unreachable":
            return subprocess.CompletedProcess(command, 1, "", "Error: no route to host")
        if self.kind == "ipmi":
            assert command[:-1] == ["ipmitool", "-I", "lanplus", "-H", "10.10.1.11", "-U", "fence", "-f", str(self.password), "chassis", "power"]
            if self.password.read_text() != SECRET:
                return subprocess.CompletedProcess(command, 1, "", "Error: Unable to establish IPMI v2 / RMCP+ session")
        else:
            assert command[:3] == ["virsh", "--connect", "qemu+ssh://fence@10.11.1.5/system"] and command[4:] == ["a-db1"]
        return subprocess.CompletedProcess(command, 0, self.answer(command[3] if self.kind == "libvirt" else command[-1]) + "\n\n", "")

    def answer(self, verb):
        if verb in ("destroy", "off"):
            self.state = {"stays-on": self.state, "pauses": "paused"}.get(self.lie, OFF[self.kind])
            return "Chassis Power Control: Down/Off"
        assert verb in ("domstate", "status")
        said = self.state
        if self.lie == "restarts" and said == OFF[self.kind]:
            self.state = ON[self.kind]
        return said

    def sleep(self, seconds):
        self.time += seconds


@pytest.fixture
def fence(tmp_path, monkeypatch, capsys):
    """Fences a host with a controller, and returns the exit status and what was said."""
    loader = importlib.machinery.SourceFileLoader("fence_host", str(FENCE))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("fence_host", loader))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)

    def run(kind, lie="nothing", state=None, password=SECRET, network=NO_ROUTE):
        controller = Controller(tmp_path, kind, lie, ON[kind] if state is None else state)
        controller.password.write_text(password)

        def connect(address, timeout):
            assert address == (ADDRESS, 22) and timeout
            if network:
                raise network
            return types.SimpleNamespace(close=lambda: None)

        monkeypatch.setattr(module.subprocess, "run", controller.run)
        monkeypatch.setattr(module.socket, "create_connection", connect)
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: controller.time, sleep=controller.sleep))
        try:
            module.main(controller.words())
        except SystemExit as refused:
            return 1, str(refused.code)
        return 0, capsys.readouterr().out

    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", [ON, OFF], ids=["on", "off"])
@pytest.mark.parametrize("network", [TimeoutError(), NO_ROUTE], ids=["silent", "unreachable"])
def test_a_host_that_is_off_in_the_end_was_fenced(fence, kind, state, network):
    assert fence(kind, state=state[kind], network=network) == (0, "a-db1 is off\n")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ("stays-on", "was told to switch it off for 60 s, and reads"),
        ("restarts", "it was off, and"),
        ("hangs", "did not answer within 10 s"),
        ("unreachable", "no route to host"),
        ("missing", "is not installed on this machine"),
    ],
)
def test_a_controller_that_claims_success_or_says_nothing_proves_nothing(fence, kind, lie, reason):
    code, said = fence(kind, lie)
    assert code == 1 and said.startswith("a-db1 was not fenced: ") and reason in said
    assert SECRET not in said


def test_a_paused_machine_is_not_off(fence):
    code, said = fence("libvirt", "pauses")
    assert code == 1 and "reads 'paused'" in said


@pytest.mark.parametrize("state", ["Chassis Power is off?", "", "off"])
def test_only_the_exact_words_count(fence, state):
    code, said = fence("ipmi", "stays-on", state=state)
    assert code == 1 and f"reads '{state}'" in said


def test_a_password_that_is_refused_proves_nothing(fence):
    code, said = fence("ipmi", password="another")
    assert code == 1 and "Unable to establish IPMI" in said and "another" not in said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", [None, ConnectionRefusedError(errno.ECONNREFUSED, "refused")], ids=["answers", "refuses"])
def test_the_power_of_another_host_proves_nothing(fence, kind, network):
    code, said = fence(kind, network=network)
    assert code == 1 and f"a host answers at {ADDRESS}: the power of another host was switched" in said


@pytest.mark.long
def test_a_tool_that_hangs_is_ended(tmp_path):
    tool = tmp_path / "virsh"
    tool.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    tool.chmod(0o755)
    done = subprocess.run(
        [FENCE, "libvirt", "--connect", "x", "--address", ADDRESS, "a-db1"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "virsh did not answer within 10 s" in done.stderr


VAULT = ["patroni_superuser_password", "patroni_replication_password", "patroni_rewind_password", "service_database_password"]
VAULT += ["pgbackrest_cipher_pass_a", "pgbackrest_cipher_pass_b", "pgbackrest_s3_key_b", "pgbackrest_s3_secret_b"]


@pytest.mark.long
def test_the_example_inventory_has_every_setting_that_site_needs(tmp_path):
    vault = dict.fromkeys(VAULT, "x") | {"pgbackrest_fingerprint_a": "0" * 64, "service_apt_key": "key"}
    (tmp_path / "vault.json").write_text(json.dumps(vault))
    roles = {"database": ["etcd", "pgbackrest", "patroni", "service_database"], "service": ["service"], "monitoring": ["monitoring"]}
    specs = (
        "{{ (lookup('ansible.builtin.file', 'TOP/ansible/roles/' ~ item ~ '/meta/argument_specs.yml') | from_yaml).argument_specs.main.options }}"
    ).replace("TOP", str(TOP))
    check = {
        "ansible.builtin.validate_argument_spec": {"argument_spec": specs},
        "loop": f"{{{{ {roles} | dict2items | selectattr('key', 'in', group_names) | map(attribute='value') | flatten }}}}",
    }
    stores = {"ansible.builtin.assert": {"that": "pgbackrest_repositories | store_faults == []"}}
    shown = {"ansible.builtin.debug": {"msg": "fence {{ region_fence_command }} {{ inventory_hostname }}"}, "when": "'database' in group_names"}
    play = tmp_path / "play.yml"
    play.write_text(json.dumps([{"hosts": "a-db1:b-db1:a-monitor:a1", "tasks": [check, stores, shown]}]))
    # What stands beside the playbooks, this play does not find by itself.
    given = ("-e", f"@{TOP}/ansible/group_vars/all/main.yml", "-e", f"@{tmp_path}/vault.json")
    command = [BIN / "ansible-playbook", "--inventory", TOP / "ansible/inventories/plain", *given, play]
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8", "ANSIBLE_CONFIG": str(TOP / "ansible/ansible.cfg")}
    environment |= {"ANSIBLE_FILTER_PLUGINS": str(TOP / "ansible/filter_plugins")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    ipmi = "fence-host ipmi --bmc 10.10.1.11 --user fence --password-file /etc/dob-api/fence-password --address 10.0.1.11 a-db1"
    assert ipmi in done.stdout
    assert "fence-host libvirt --connect qemu+ssh://fence@10.11.1.5/system --address 10.1.1.11 b-db1" in done.stdout
