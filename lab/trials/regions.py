"""What an operator does about a region that is lost, and returns."""

import re
import subprocess
import time

from lab.hosts import nspawn, plan


def play(cluster, name, *settings):
    """Runs a playbook in silence; what it said is shown only if it failed."""
    done = attempt(cluster, name, *settings)
    if done.returncode != 0:
        raise nspawn.Failed(f"{name} failed:\n{done.stdout}")


def attempt(cluster, name, *settings):
    settings = [f"--extra-vars={setting}" for setting in settings]
    return cluster.playbook(name, *settings, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def promote(cluster, region):
    """Fences the other region, promotes this one, and returns when that was commanded."""
    commanded = time.monotonic()
    play(cluster, "failover-region.yml", f"target_region={region}")
    return commanded


def end_loss(cluster, region):
    """Heals a region that was cut off, and boots those of its hosts that were fenced."""
    if cluster.cloud.is_cut(region):
        cluster.cloud.heal(region)
    for machine in hosts_of(cluster, region):
        if not machine.is_up():
            machine.boot()


def hosts_of(cluster, region):
    return [cluster.machines[place.name] for place in plan.databases(region)]


def waits(cluster, region):
    """Whether every host of a region waits, because the other region takes writes."""
    # journalctl fails where it finds no line: that is an answer, too.
    journal = "journalctl --boot --unit patroni --output=cat --grep='waiting: the other region takes writes' || true"
    return all("waiting" in cluster.ssh(machine.name, journal) for machine in hosts_of(cluster, region))


def rejoin(cluster, region):
    """Makes a returned region a standby; what it had not sent is given up."""
    done = attempt(cluster, "rejoin.yml", f"target_region={region}")
    if done.returncode != 0:
        held = re.findall(r"region_discard=(\d+)", done.stdout)
        if not held:
            raise nspawn.Failed(f"rejoin.yml failed:\n{done.stdout}")
        # What every host holds is named; who gives up the most gives up all.
        play(cluster, "rejoin.yml", f"target_region={region}", f"region_discard={max(map(int, held))}")
    cluster.wait_until_whole(region)


def fail_back(cluster, region):
    play(cluster, "failback.yml", f"target_region={region}")


def restore(cluster, region):
    """Ends every fault, and makes a region that was replaced the primary again."""
    cluster.heal()
    other = next(name for name in cluster.regions() if name != region)
    if cluster.leader(other):
        nspawn.wait_until(lambda: cluster.members(region) or waits(cluster, region), f"region {region} runs, or waits", 120)
        if not cluster.members(region):
            rejoin(cluster, region)
    cluster.mend()
    if not cluster.leader(region):
        fail_back(cluster, region)
