"""Which hosts site refuses as not fit, and with which sentence; nothing is booted."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tools import TOP

BIN = pathlib.Path(sys.prefix) / "bin"
GOOD = {"system": "debian 13", "memory_mb": "950", "root_mb": "1024", "volume_mb": "8000", "clock": "1000", "before": 1000, "after": 1001}
# Hosts by their names: what differs from the good one, and what is said of it.
HOSTS = {
    "good": ({}, None),
    "without-volume": ({"volume_mb": None}, None),
    "asked-slowly": ({"clock": "1040", "after": 1090}, None),
    "older": ({"system": "debian 12"}, "older runs debian 12, and needs debian 13"),
    "derived": ({"system": "ubuntu 13"}, "derived runs ubuntu 13, and needs debian 13"),
    "small": ({"memory_mb": "899"}, "small has 899 MB of memory, and needs 900 MB"),
    "full": ({"root_mb": "1023"}, "full has 1023 MB free on its root file system, and needs 1024 MB"),
    "narrow": ({"volume_mb": "7999"}, "the data volume of narrow has 7999 MB, and needs 8000 MB"),
    "late": ({"clock": "994"}, "the clock of late is 6 s off from the clock here"),
    "early": ({"clock": "1007"}, "the clock of early is 6 s off from the clock here"),
}


def ansible(folder, hosts, role, tasks, *extra, module=None):
    """What the tasks of a role say of each host."""
    inventory = folder / "hosts.json"
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(json.dumps({"all": {"children": hosts, "vars": local}}))
    module = module or ("-m", "ansible.builtin.include_role", "-a", f"name={role} tasks_from={tasks}")
    command = [BIN / "ansible", "all", "--inventory", inventory, "--playbook-dir=.", *module, *extra]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "ANSIBLE_ANY_ERRORS_FATAL": "False"}
    done = subprocess.run(list(map(str, command)), env=environment, cwd=TOP / "ansible", capture_output=True, text=True, timeout=300)
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    told = {name: {key: value for key, value in (GOOD | differs).items() if value is not None} for name, (differs, _) in HOSTS.items()}
    hosts = {"database": {"hosts": {name: {"base_host": host} for name, host in told.items()}}}
    return ansible(tmp_path_factory.mktemp("judged"), hosts, "base", "judge")


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_that_is_not_fit_is_refused_by_one_sentence_that_names_it(judged, name):
    sentence = HOSTS[name][1]
    assert (f"{name} | FAILED!" in judged) == (sentence is not None), judged
    assert sentence is None or sentence in judged, judged


@pytest.mark.parametrize(
    ("addresses", "networks", "refused"),
    [
        (["10.1.2.3"], ["10.0.0.0/8"], None),
        (["10.1.2.3", "192.168.4.5"], ["10.0.0.0/8", "192.168.0.0/16"], None),
        (["10.1.2.3", "192.168.4.5", "172.16.0.1"], ["10.0.0.0/8"], "172.16.0.1, 192.168.4.5 is outside of patroni_networks, 10.0.0.0/8"),
    ],
)
def test_service_hosts_outside_the_networks_are_named(tmp_path, addresses, networks, refused):
    service = {f"app{number}": {"address": address} for number, address in enumerate(addresses)}
    hosts = {"service": {"hosts": service}, "database": {"hosts": {"db1": {"address": "203.0.113.1"}}}}
    said = ansible(tmp_path, hosts, "patroni", "networks", "--limit=db1", "-e", json.dumps({"patroni_networks": networks}))
    assert ("FAILED!" in said) == (refused is not None), said
    assert refused is None or refused in said, said


def test_a_network_that_is_none_is_refused(tmp_path):
    hosts = {"database": {"hosts": {"db1": {"address": "10.0.0.1"}}}}
    said = ansible(tmp_path, hosts, "patroni", "networks", "-e", json.dumps({"patroni_networks": ["10.0.0.0/33"]}))
    assert "FAILED!" in said and "10.0.0.0/33" in said, said
