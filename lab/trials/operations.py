"""What an operator does while something else happens: a planned step, or one that ends halfway."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

from lab.hosts import nspawn
from lab.hosts.cluster import TOP, Cluster
from lab.trials import regions
from lab.trials.fault import REGION, Fault, Replaced
from lab.trials.playing import Playing

# How long a playbook may try while something else is wrong; then the operator gives up.
PATIENCE_S = 400


class Operation(Fault):
    """A playbook. Alone it comes to its end; in a pair it is under way when the second fault begins, and may fail then."""

    passes = True
    # What the name of the task contains at which a second fault begins.
    file, settings, amid, playing = None, (), None, None

    def begin(self):
        self.launch()
        if self.playing.wait() != 0:
            raise nspawn.Failed(f"{self.file} failed: {self.playing.reason()}")

    def launch(self):
        self.playing = Playing(self.cluster, self.file, *self.settings).start()
        nspawn.wait_until(self.is_amid, f"{self.file} comes to '{self.amid}'", PATIENCE_S)

    def is_amid(self):
        return self.playing.is_over() or any(self.amid in task for _, task in list(self.playing.tasks))

    def end(self):
        if self.playing and not self.playing.is_over():
            with contextlib.suppress(TimeoutError):
                self.playing.wait(PATIENCE_S)
            self.playing.kill()

    def recover(self):
        """Where it was stopped, it is run again, as its page says."""
        super().recover()
        if self.playing and self.playing.process.returncode != 0:
            regions.play(self.cluster, self.file, *self.settings)
            super().recover()


class Switchover(Replaced, Operation):
    name, what, aim = "switchover", "a planned switchover to another host of the region", 3
    file, amid = "switchover.yml", "Move the primary"

    @property
    def settings(self):
        return (f"target_region={self.home}",)


class Backup(Operation):
    name, what = "backup", "a full backup into both buckets"
    file, settings, amid = "backup.yml", ("backup_type=full",), "Make the backup"


class PlaybookKilled(Operation):
    """The playbook is `site`, which has something to do everywhere."""

    name, what = "playbook-killed", "the playbook site is killed at a random task, and run again"
    file, settings = "site.yml", ("certificates_renew_days=10000",)
    TASKS = range(10, 100)

    def begin(self):
        self.launch()

    def launch(self):
        self.playing = Playing(self.cluster, self.file, *self.settings).start()
        self.playing.reach(self.choice(self.TASKS))
        self.playing.kill()


class RollOut(Fault):
    """By a process of its own, as a deploy is. Where it is rolled back, the old hosts serve on."""

    name, what, passes, refuses = "roll-out", "the region's service hosts are replaced by hosts of a new version", True, True
    process = None

    def begin(self):
        self.launch()
        nspawn.wait_until(self.is_done, "the roll-out ends", PATIENCE_S)

    def launch(self):
        command = [sys.executable, "-B", "-m", "lab.trials.rehearsal", "--region", REGION, "--rate", "50"]
        settings = os.environ | {"CLUSTER_RUN": str(self.cluster.run.folder), "PYTHONPATH": str(TOP)}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process, self.lines = subprocess.Popen(command, cwd=TOP, env=settings, start_new_session=True, **pipes), []
        threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")), daemon=True).start()
        nspawn.wait_until(lambda: self.is_done() or any("installed" in line for line in self.lines), "new hosts are installed", PATIENCE_S)

    def is_done(self):
        return self.process.poll() is not None

    def end(self):
        if self.process and not self.is_done():
            with contextlib.suppress(TimeoutError):
                nspawn.wait_until(self.is_done, "the roll-out ends", PATIENCE_S)
            if not self.is_done():
                # It takes the new hosts away, as after Ctrl-C.
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(PATIENCE_S)
        # Which hosts there are now, the files of the run tell.
        self.cluster.machines = Cluster(self.cluster.run, self.cluster.venv).machines

    def afterwards(self):
        regions.play(self.cluster, "site.yml")
