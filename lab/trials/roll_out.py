"""Replaces the service hosts of a region as a cloud's instance refresh does: no old one goes before its successor serves."""

import concurrent.futures
import contextlib
import signal
import subprocess
import time

from lab.hosts import nspawn, plan
from lab.hosts.cluster import rootfs
from lab.hosts.machine import Machine

# What an image and its user-data would bring: all of a service host but the package.
SETTINGS = (
    "etc/apt/sources.list.d/dob-api.sources",
    "etc/credstore/dob-api.database-password",
    "etc/default/dob-api",
    "etc/dob-api/database-ca.crt",
    "etc/hosts",
    "etc/systemd/system/dob-api.socket.d/listen.conf",
)
# How long a target may finish what is under way. A cloud's balancer ends it early too, once nothing is.
DEREGISTRATION_DELAY = 40
INSTALL = "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Options::=--force-confold install dob-api={} >/dev/null"


class RolledBack(Exception):
    """Why the new hosts were taken away again; the old ones serve as before."""


class RollOut:
    """One replacement of all service hosts of a region."""

    def __init__(self, cluster, region, balancer, tell):
        self.cluster, self.balancer, self.tell = cluster, balancer, tell
        self.old = cluster.places("service", region)
        self.new = [plan.SUCCESSORS[place.name] for place in self.old]
        # What happened to which host, and when by the machine's monotonic clock.
        self.events = []

    def run(self, version, patience, warm_up):
        """Launch, health, warm-up; then deregister, drain, terminate. The new hosts go if they do not become healthy."""
        try:
            for place in self.new:
                self.launch(place)
            each(self.new, self.install, version)
            self.wait_until_healthy(patience)
            # As long as a cloud lets them serve beside the old ones before it trusts them.
            self.tell(f"healthy; {warm_up} s of warm-up")
            time.sleep(warm_up)
            self.refuse_unhealthy()
        except BaseException as error:
            with uninterrupted():
                self.retire([place for place in self.new if place.name in self.cluster.machines])
            if isinstance(error, (TimeoutError, nspawn.Failed, subprocess.SubprocessError)):
                raise RolledBack(f"{version} was rolled back: {error}") from error
            raise
        with uninterrupted():
            self.retire(self.old)
            self.cluster.write_inventory()

    def launch(self, place):
        """Starts an empty host with the settings of the one that it replaces."""
        self.event(place, "launched")
        machine = self.cluster.machines[place.name] = Machine(self.cluster.cloud, place, rootfs("service"))
        machine.make(self.cluster.credentials)
        disk = self.cluster.run.folder / plan.SUCCESSORS[place.name].name / "upper"
        nspawn.run("cp", "--archive", "--parents", *SETTINGS, machine.folder / "upper", cwd=disk)
        machine.start()
        self.balancer.register(place)

    def install(self, place, version):
        self.cluster.machines[place.name].wait_until_booted()
        self.event(place, "booted")
        done = self.cluster.operator(*self.cluster.ssh_command(place.name, INSTALL.format(version)), capture_output=True, timeout=300)
        if done.returncode != 0:
            raise nspawn.Failed(f"{place.name} could not install it: {done.stderr.strip()}")
        self.event(place, "installed")

    def health(self):
        targets = self.balancer.targets()
        return {place: targets[place.name]["status"] for place in self.new}

    def wait_until_healthy(self, patience):
        def healthy():
            health = self.health()
            for place, status in health.items():
                if status == "UP" and not any((name, what) == (place.name, "healthy") for _, name, what in self.events):
                    self.event(place, "healthy")
            return set(health.values()) == {"UP"}

        self.tell(f"installed; waiting until the balancer finds {', '.join(place.name for place in self.new)} healthy")
        nspawn.wait_until(healthy, "every new host healthy", patience)

    def refuse_unhealthy(self):
        ill = [place.name for place, status in self.health().items() if status != "UP"]
        if ill:
            raise nspawn.Failed(f"{', '.join(ill)} did not stay healthy")

    def retire(self, places):
        """Takes hosts from the balancer, lets them finish, and only then stops them."""
        registered = [place for place in places if place.name in self.balancer.targets()]
        for place in registered:
            self.balancer.deregister(place)
            self.event(place, "deregistered")
        with contextlib.suppress(TimeoutError):
            nspawn.wait_until(lambda: self.is_drained(registered), "no request under way", DEREGISTRATION_DELAY)
        for place in registered:
            self.balancer.remove(place)
            self.event(place, "drained")
        each(places, self.terminate)

    def is_drained(self, places):
        targets = self.balancer.targets()
        return not any(int(targets[place.name]["scur"]) for place in places)

    def terminate(self, place):
        """Shuts a host down as a cloud does: systemd stops the service, then the power goes."""
        machine = self.cluster.machines[place.name]
        # Its end may come before the answer.
        self.cluster.operator(*self.cluster.ssh_command(place.name, "systemctl", "--no-block", "poweroff"), capture_output=True, timeout=60)
        with contextlib.suppress(TimeoutError):
            nspawn.wait_until(lambda: not machine.is_running(), f"{place.name} off", 90)
        self.event(place, "stopped")
        machine.remove()
        del self.cluster.machines[place.name]

    def event(self, place, what):
        self.events.append((time.monotonic(), place.name, what))


def each(places, function, *arguments):
    """Does it for all places at once; the first error counts when all have ended."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(function, place, *arguments) for place in places]:
            done.result()


@contextlib.contextmanager
def uninterrupted():
    """Keeps Ctrl-C waiting: hosts half taken away would be in nobody's books."""
    came = []
    before = {number: signal.signal(number, lambda *_: came.append(True)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt
