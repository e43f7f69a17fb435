"""A host whose data volume is missing, or is another user's, is refused before anything is installed on it."""

import os
import pathlib
import pwd
import shlex
import subprocess
import sys

import pytest

from tools import TOP

BIN = pathlib.Path(sys.prefix) / "bin"
# Users that every Debian host has, and one that none has.
OWNER, OTHER, ABSENT = "nobody", "daemon", "dob-api-absent"


@pytest.fixture
def site(tmp_path):
    """Runs the role's own tasks on this machine, in a mount namespace of their own; a volume belongs to a user's number, if there is one."""

    def run(user, number=None, *flags):
        mount = f"mount -t tmpfs tmpfs {tmp_path} && chown {number}:{number} {tmp_path} &&" if number is not None else ""
        tasks = ("-m", "ansible.builtin.include_role", "-a", "name=base tasks_from=volume")
        settings = ("-e", f"base_volume={tmp_path}", "-e", f"base_volume_user={user}")
        ansible = shlex.join([str(BIN / "ansible"), "localhost", *tasks, *settings, *flags])
        command = ("unshare", "--mount", "sh", "-c", f"{mount} {ansible}")
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "ANSIBLE_LOCAL_TEMP": "/tmp", "ANSIBLE_REMOTE_TEMP": "/tmp"}
        return subprocess.run(command, env=environment, cwd=TOP / "ansible", capture_output=True, text=True, timeout=300)

    return run


def number(user):
    return pwd.getpwnam(user).pw_uid


def test_a_host_without_its_volume_is_refused(site, tmp_path):
    done = site(OWNER)
    assert done.returncode != 0 and f"nothing is mounted at {tmp_path}" in done.stdout, done.stdout


@pytest.mark.parametrize("owner", ["root", OWNER])
def test_an_empty_volume_and_one_of_its_user_are_taken(site, owner):
    done = site(OWNER, number(owner))
    assert done.returncode == 0 and '"changed": true' not in done.stdout, done.stdout


@pytest.mark.parametrize("user", [OWNER, ABSENT])
def test_a_volume_of_another_users_number_is_refused(site, user):
    done = site(user, number(OTHER))
    assert done.returncode != 0 and f"number {number(OTHER)}, and here that is {OTHER}" in " ".join(done.stdout.split()), done.stdout


def test_on_a_host_that_was_replaced_the_user_gets_the_number_that_the_volume_has(site):
    done = site(ABSENT, 54321, "--check")
    assert done.returncode == 0 and done.stdout.count("CHANGED") == 2, done.stdout
