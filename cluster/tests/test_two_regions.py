"""What two regions promise: one replaces the other on command, and never do both take writes."""

import re
import subprocess
import time

import hosts
import plan


def play(cluster, name, *arguments):
    return cluster.playbook(name, *arguments, check=False, stdout=subprocess.PIPE)


def test_a_region_is_not_replaced_without_proof_that_it_is_off(whole):
    refused = play(whole, "failover-region.yml", "-e", "target_region=b", "-e", "region_fence_command=false")
    assert refused.returncode != 0
    assert "nothing proves that a-db1 is off" in refused.stdout
    assert whole.leader("a") and not whole.leader("b")


def test_the_region_that_takes_writes_is_not_promoted(whole):
    refused = play(whole, "failover-region.yml", "-e", "target_region=a")
    assert refused.returncode != 0
    assert "region a takes writes already" in refused.stdout
    assert whole.leader("a")


def test_a_running_region_does_not_rejoin(whole):
    refused = play(whole, "rejoin.yml", "-e", "target_region=b")
    assert refused.returncode != 0
    assert "Patroni runs on b-db1" in refused.stdout


def test_a_dead_region_is_replaced_waits_when_it_returns_and_leads_again(whole, client):
    dead = [whole.machines[place.name] for place in plan.databases("a")]
    with client("b") as ledger:
        for machine in dead:
            machine.kill()
        commanded = time.monotonic()
        whole.playbook("failover-region.yml", "-e", "target_region=b")
        ledger.goes_on()
    first = min(end for _, end in ledger.acknowledgements() if end > commanded)
    unsent = len(ledger.lost("b"))
    print(f"{ledger.figures()}; first write {first - commanded:.1f} s after the command; {unsent} acknowledged writes not carried")
    assert ledger.failed("PUT") == []

    with client("b") as ledger:
        for machine in dead:
            machine.boot()
        ledger.goes_on()
        assert not whole.leader("a")
    for machine in dead:
        assert "waiting: the other region takes writes" in whole.ssh(machine.name, "journalctl", "--boot", "--unit", "patroni")
    assert ledger.lost("b") == []

    begun = time.monotonic()
    rejoined = play(whole, "rejoin.yml", "-e", "target_region=a")
    if unsent:
        assert rejoined.returncode != 0
    if rejoined.returncode != 0:
        # What every host holds is named; who gives up the most gives up all.
        held = max(map(int, re.findall(r"region_discard=(\d+)", rejoined.stdout)))
        rejoined = play(whole, "rejoin.yml", "-e", "target_region=a", "-e", f"region_discard={held}")
    assert rejoined.returncode == 0, rejoined.stdout
    whole.wait_until_whole("a")
    print(f"region a in step {time.monotonic() - begun:.1f} s after the command")

    with client("b") as ledger:
        whole.playbook("failback.yml", "-e", "target_region=a")
        ledger.goes_on()
    print(ledger.figures())
    assert whole.leader("a") and not whole.leader("b")
    assert ledger.failed("PUT") == []
    assert ledger.lost("a") == []


def test_a_region_that_was_replaced_unseen_stands_down_when_it_sees_the_other(whole):
    override = ("-e", "region_fence_command=false", "-e", "region_fence_override=tested")
    whole.cloud.cut("a")
    whole.playbook("failover-region.yml", "-e", "target_region=b", *override)
    put = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "-d", '{"dateOfBirth":"2000-01-01"}')
    assert whole.machines["a-app1"].inside(*put, "http://127.0.0.1:8080/hello/unseen").stdout == "204"
    whole.cloud.heal("a")
    begun = time.monotonic()
    hosts.wait_until(lambda: not whole.members("a"), "the old region stands down")
    print(f"region a stood down {time.monotonic() - begun:.1f} s after the cut had healed")
    assert whole.leader("b")
    refused = play(whole, "rejoin.yml", "-e", "target_region=a")
    assert "holds 1 transactions that the other region never received" in refused.stdout
    assert refused.returncode != 0
    whole.playbook("rejoin.yml", "-e", "target_region=a", "-e", "region_discard=1")
