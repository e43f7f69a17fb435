"""What one region promises: nothing acknowledged is lost and nobody is refused, whatever happens to one zone.

How long writes waited is printed, not asserted: what the machine does besides decides it.
"""

import re
import subprocess

import pytest

from cluster import TOP


def recap(output):
    return {name: int(count) for name, count in re.findall(r"^(\S+) +: .*changed=(\d+)", output, re.M)}


def test_a_second_run_of_site_changes_nothing(whole):
    changes = recap(whole.playbook("site.yml", stdout=subprocess.PIPE).stdout)
    assert len(changes) == 10
    assert set(changes.values()) == {0}


def site(cluster, *arguments, vault_password):
    """Runs site with this password file; what it said, after it stopped without a change."""
    command = [cluster.venv / "bin/ansible-playbook", "--inventory", cluster.inventory, "--vault-password-file", vault_password]
    options = {"env": cluster.environment(), "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    stopped = cluster.operator(*command, TOP / "ansible/site.yml", *arguments, **options)
    assert stopped.returncode != 0
    assert set(recap(stopped.stdout).values()) <= {0}
    return stopped.stdout


def test_site_stops_at_a_wrong_vault_password(whole, tmp_path):
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    assert "Decryption failed" in site(whole, vault_password=wrong)


def test_site_stops_at_a_wrong_setting_before_it_changes_anything(whole):
    said = site(whole, "-e", "patroni_synchronous_mode=sometimes", vault_password=whole.credentials.vault_password)
    assert "patroni_synchronous_mode must be one of: quorum, on, off" in said


def test_site_stops_at_an_unreachable_host_before_it_changes_anything(whole):
    whole.machines["b-app2"].kill()
    said = site(whole, "-e", "service_write_patience=29s", vault_password=whole.credentials.vault_password)
    assert re.search(r"b-app2.*unreachable=1", said)


def survives(ledger, region):
    """Checks what a fault inside a region may cost, and reports what it did."""
    print(ledger.figures())
    assert ledger.failed("GET") == []
    assert ledger.failed("PUT") == []
    assert ledger.lost(region) == []


def test_the_death_of_the_primarys_host_costs_no_acknowledged_write_and_no_read(whole, client):
    victim = whole.leader("a")
    with client("a") as ledger:
        whole.machines[victim].kill()
        ledger.goes_on()
    assert whole.leader("a") != victim
    survives(ledger, "a")


def test_a_primary_that_is_cut_off_costs_no_acknowledged_write_and_no_read(whole, client):
    victim = whole.leader("a")
    with client("a") as ledger:
        whole.cloud.cut(victim)
        ledger.goes_on()
    assert whole.leader("a") != victim
    survives(ledger, "a")


def test_a_switchover_costs_no_write_and_no_read(whole, client):
    before = whole.leader("a")
    with client("a") as ledger:
        whole.playbook("switchover.yml", "-e", "target_region=a")
        ledger.goes_on()
    assert whole.leader("a") != before
    survives(ledger, "a")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name the region with --extra-vars target_region=NAME: one of a"),
        (["-e", "target_region=x"], "name the region with --extra-vars target_region=NAME: one of a"),
        (["-e", "target_region=a", "-e", "patroni_candidate=a-db9"], "a-db9 cannot take over: choose one of"),
    ],
)
def test_a_switchover_that_cannot_be_meant_is_refused(whole, arguments, reason):
    before = whole.leader("a")
    refused = whole.playbook("switchover.yml", *arguments, check=False, stdout=subprocess.PIPE)
    assert refused.returncode != 0
    assert reason in refused.stdout
    assert whole.leader("a") == before
