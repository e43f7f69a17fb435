"""The lock that keeps two runs of playbooks off a host: it dies with the connection of its holder."""

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types

import pytest

from lab import cli
from lab.hosts import nspawn
from lab.hosts.cluster import Unusable
from tools import TOP

PROGRAM = TOP / "ansible/roles/lock/files/playbook-lock"


@pytest.fixture
def connect(tmp_path):
    """Opens a connection like sshd's: a process of that name, which runs what it is sent and ends with the other end."""
    shutil.copy(shutil.which("bash"), tmp_path / "sshd-session")
    environment = os.environ | {"PLAYBOOK_LOCK": str(tmp_path / "lock")}
    opened = []

    class Connection:
        def __init__(self):
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            self.process = subprocess.Popen([tmp_path / "sshd-session"], env=environment, **pipes)
            opened.append(self)

        def ask(self, holder, breaker=""):
            """Asks for the lock, and returns the exit code with what was said."""
            command = f"{sys.executable} - '{holder}' '{breaker}' <{PROGRAM}; echo \" code $?\"\n"
            self.process.stdin.write(command)
            self.process.stdin.flush()
            said, _, code = self.process.stdout.readline().rpartition(" code ")
            return int(code), said

        def lose(self):
            """The runner at the other end dies."""
            self.process.kill()
            self.process.wait()

    yield Connection
    for one in opened:
        with contextlib.suppress(ProcessLookupError):
            one.lose()


def test_a_second_run_is_told_who_holds_the_host_since_when(connect, tmp_path):
    first, second = connect(), connect()
    assert first.ask("ada on a laptop (site.yml)") == (0, "")
    code, said = second.ask("a workflow")
    since = json.loads((tmp_path / "lock").read_text())["since"]
    assert (code, said) == (3, f"ada on a laptop (site.yml) since {since}")
    assert json.loads((tmp_path / "lock").read_text())["holder"] == "ada on a laptop (site.yml)"


def test_a_run_that_asks_twice_has_it_once(connect):
    first, second = connect(), connect()
    assert [first.ask("rotate.yml")[0], first.ask("site.yml, which rotate.yml runs")[0], second.ask("another")[0]] == [0, 0, 3]


def test_nothing_is_left_when_the_holders_connection_dies(connect):
    first, second = connect(), connect()
    assert first.ask("a runner that dies")[0] == 0
    first.lose()
    # The one who held it learns of the end from the kernel, some moments later.
    assert nspawn.wait_until(lambda: second.ask("the next")[0] == 0, "the lock is free")


def test_who_breaks_the_lock_ends_the_other_run_and_is_named(connect, tmp_path):
    first, second, third = connect(), connect(), connect()
    assert first.ask("a run that hangs")[0] == 0
    assert second.ask("failover-region.yml", "ada, on call: the region is lost") == (0, "")
    assert first.process.wait(10) != 0, "its playbook finds the host unreachable"
    assert third.ask("another")[1].startswith("failover-region.yml, who broke the lock of a run that hangs: ada, on call: the region is lost since ")


def test_of_many_that_ask_at_once_one_gets_it(connect):
    runs = [connect() for _ in range(8)]
    for number, one in enumerate(runs):
        one.process.stdin.write(f"{sys.executable} - 'run {number}' <{PROGRAM}; echo \" code $?\"\n")
        one.process.stdin.flush()
    codes = [int(one.process.stdout.readline().rpartition(" code ")[2]) for one in runs]
    assert sorted(codes) == [0] + [3] * 7


INVENTORY = "all: {children: {database: {hosts: {a-db1: {}}}, monitoring: {hosts: {a-monitor: {}}}}, vars: {ansible_connection: local}}"


def test_the_play_before_a_playbook_says_in_one_sentence_who_holds_a_host(connect, tmp_path):
    """Without ssh: the process that stands for sshd is above Ansible here, as it is above Ansible's tasks on a host."""
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    ansible = nspawn.run(TOP / "tools/venv", "production", timeout=900).stdout.strip() + "/bin/ansible-playbook"
    runs = [connect() for _ in range(3)]

    def play(one, *more):
        command = f"ANSIBLE_CONFIG={TOP}/ansible/ansible.cfg {ansible} -i {tmp_path}/inventory.yml {TOP}/ansible/roles/lock/play.yml {' '.join(more)}"
        one.process.stdin.write(f"cd {TOP}/ansible; {command} >{tmp_path}/said 2>&1 </dev/null; echo $?\n")
        one.process.stdin.flush()
        return int(one.process.stdout.readline()), (tmp_path / "said").read_text()

    code, said = play(runs[0], "-e", "lock_holder=first")
    assert code == 0 and "a-monitor" not in said, said
    code, said = play(runs[1], "-e", "lock_holder=second")
    assert code == 2 and re.search(r'"msg": "a-db1 is held by first since [\d-]+ [\d:]+ UTC: nothing was changed. [^"]*lock_break=', said), said
    # A dry run changes nothing, so it needs no lock.
    assert play(runs[1], "--check")[0] == 0
    code, said = play(runs[2], "-e", "lock_break=ada")
    assert code == 0 and runs[0].process.wait(10) != 0, said


def test_on_the_cluster_of_this_machine_a_playbook_takes_the_same_lock(connect, tmp_path, monkeypatch):
    """`./dev cluster play` before a cluster whose hosts are this one: it runs `./dev play` with the cluster's inventory."""
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    (tmp_path / "password").write_text("unused")
    first, second = connect(), connect()
    assert first.ask("ada on a laptop (site.yml)")[0] == 0

    def operator(*command, env):
        (tmp_path / "run").write_text(f"exec env -i {shlex.join([f'{name}={value}' for name, value in env.items()] + list(map(str, command)))}\n")
        second.process.stdin.write(f"sh {tmp_path}/run >{tmp_path}/said 2>&1 </dev/null; echo $?\n")
        second.process.stdin.flush()
        return subprocess.CompletedProcess(command, int(second.process.stdout.readline()))

    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PLAYBOOK_LOCK": str(tmp_path / "lock")}
    secrets = types.SimpleNamespace(vault_password=tmp_path / "password")
    cluster = types.SimpleNamespace(operator=operator, environment=lambda: environment, inventory=tmp_path / "inventory.yml", credentials=secrets)
    monkeypatch.setattr(cli, "current", lambda: cluster)
    with pytest.raises(Unusable, match=r"switchover\.yml failed"):
        cli.play(argparse.Namespace(playbook="switchover.yml", arguments=["-e", "target_region=a"]))
    assert "a-db1 is held by ada on a laptop (site.yml) since" in (tmp_path / "said").read_text()


def test_a_playbook_that_did_not_come_by_ssh_is_refused(tmp_path):
    environment = os.environ | {"PLAYBOOK_LOCK": str(tmp_path / "lock")}
    # Its own session leader, so that an ssh connection above the tests is not in sight: the first process of a namespace.
    command = ("unshare", "--pid", "--fork", "--mount-proc", sys.executable, PROGRAM, "local")
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "did not come by ssh" in ended.stderr and not (tmp_path / "lock").exists()
