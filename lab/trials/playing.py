"""A playbook that runs beside everything else, and what may end it too early."""

import contextlib
import secrets
import subprocess
import threading
import time

from lab.hosts import nspawn, plan

# Longer than any playbook of the table takes on a busy machine.
END_S = 1200
# ssh gives up a host that does not answer for 10 s, each task notices that for itself, and some tasks are tried again. Where etcd is
# configured, one host after the other, that takes more than five minutes.
CUT_S = 900
# The operator's network is lost: what was sent over ssh is not answered any more, and nobody says why.
CUT = f"""
table inet operator_cut {{
    chain out {{ type filter hook forward priority 0; ip saddr {plan.OPERATOR} tcp dport 22 drop; }}
}}
"""


class Playing:
    """One run of a playbook, in a process of its own."""

    def __init__(self, cluster, name, *settings):
        self.cluster, self.name, self.settings = cluster, name, settings
        # Tells its processes from those of other runs, also when it has gone.
        self.group = f"playbook-{secrets.token_hex(4)}"
        # When each task began, by the machine's monotonic clock, and its name.
        self.tasks, self.lines = [], []

    def start(self):
        arguments = [f"--extra-vars={setting}" if not setting.startswith("-") else setting for setting in self.settings]
        # Otherwise the name of a task is printed only when its first host is done.
        environment = self.cluster.environment() | {"ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"}
        command = self.cluster.playbook_command(self.name, *arguments)
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(self.cluster.operator_command(*command, group=self.group), env=environment, **pipes)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("TASK ["):
                self.tasks.append((time.monotonic(), line[6:].partition("]")[0]))

    def is_over(self):
        return self.process.poll() is not None

    def reach(self, number):
        """Waits until the task of a number, from 0 on, has begun; false if the playbook came to its end before."""
        nspawn.wait_until(lambda: len(self.tasks) > number or self.is_over(), f"task {number} of {self.name}", END_S)
        return len(self.tasks) > number

    def linger(self, seconds):
        """Lets so much more time pass, or less if it ends before."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def wait(self, deadline=END_S):
        """Waits for the end, and returns the exit code."""
        nspawn.wait_until(self.is_over, f"the end of {self.name}", deadline)
        return self.process.returncode

    def output(self):
        return "".join(self.lines)

    def reason(self):
        """The first failure that was printed."""
        return next((line.strip()[:300] for line in self.lines if line.startswith(("fatal:", "ERROR"))), "no reason was printed")

    def kill(self):
        """Ends ansible-playbook alone, as when memory runs out: its helpers and what runs on the hosts hear nothing of it."""
        self.process.kill()
        self.process.wait(10)

    def left(self):
        """The processes that it started and that still run."""
        return {pid for group in self.cluster.run.groups(self.group) for pid in (group / "cgroup.procs").read_text().split()}

    def cut(self):
        """Loses the network between the operator and the hosts until the playbook has given up."""
        self.cluster.cloud.nft(CUT)
        try:
            self.wait(CUT_S)
        finally:
            self.cluster.cloud.nft("delete table inet operator_cut")
            self.kill()


MANNERS = {"killed": Playing.kill, "cut off": Playing.cut}
