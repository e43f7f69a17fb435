"""What one region promises: nothing acknowledged is lost and nobody is refused, whatever happens to one zone.

How long writes waited is printed, not asserted: what the machine does besides decides it.
"""

import re
import shutil
import subprocess
import time

import pytest

from lab.hosts import nspawn, plan, storage
from lab.hosts.cluster import LEADERS
from lab.trials import faults
from lab.trials.playing import Playing


def recap(output):
    return {name: int(count) for name, count in re.findall(r"^(\S+) +: .*changed=(\d+)", output, re.M)}


def test_a_second_run_of_site_changes_nothing_and_its_log_has_no_password(whole):
    for region, arguments in ("a", []), ("b", ["--check", "--diff"]):
        said = whole.playbook("site.yml", "-vvv", f"--limit=region_{region}", *arguments, stdout=subprocess.PIPE).stdout
        changes = recap(said)
        assert len(changes) == 6
        assert set(changes.values()) == {0}
        assert not [secret for secret in whole.credentials.passwords() if secret in said]


def stopped(cluster, *arguments, **options):
    """What site said before it stopped without a change."""
    site = cluster.playbook("site.yml", *arguments, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    assert site.returncode != 0
    assert set(recap(site.stdout).values()) <= {0}
    return re.sub(r"\s+", " ", site.stdout)


def test_site_stops_at_a_wrong_vault_password(whole, tmp_path):
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    assert "Decryption failed" in stopped(whole, vault_password=wrong)


def test_site_stops_at_a_missing_password_before_it_changes_anything(whole, tmp_path):
    shutil.copy(whole.inventory / "hosts.yml", tmp_path)
    said = stopped(whole, inventory=tmp_path)
    assert re.search(r"missing required arguments: .*patroni_superuser_password", said)


def test_site_stops_at_a_wrong_setting_before_it_changes_anything(whole):
    assert "patroni_synchronous_mode must be one of: quorum, on, off" in stopped(whole, "-e", "patroni_synchronous_mode=sometimes")


@pytest.mark.parametrize("region", plan.NETWORKS)
def test_etcds_lead_is_not_on_the_host_that_leads_postgresql(whole, region):
    leader = next(name for name, member in whole.members(region).items() if member["role"] in LEADERS)
    status = f"{faults.ETCDCTL} endpoint status"
    # Refused while etcd has no leader: whether it moved is asked below, and then it is told again.
    move = f"{faults.ETCDCTL} --endpoints={endpoints(region)} move-leader $({status} | cut -d, -f2) 2>&1 || true"

    def leads():
        return whole.ssh(leader, status).split(", ")[4] == "true"

    nspawn.wait_until(lambda: leads() or (whole.ssh(leader, move) and leads()), f"{leader} leads etcd", 30)
    nspawn.wait_until(lambda: not leads(), f"{leader} gives etcd's lead away", 60)


def endpoints(region):
    return ",".join(f"https://{place.address}:2379" for place in plan.databases(region))


def survives(ledger, region):
    """Checks what a fault inside a region may cost, and reports what it did."""
    print(ledger.figures())
    assert ledger.failed("GET") == []
    assert ledger.failed("PUT") == []
    assert ledger.lost(region) == []


def comes_back(cluster, region, end):
    """Ends a fault and reports how long the region takes to be whole again, without anybody's help."""
    begun = time.monotonic()
    end()
    cluster.wait_until_whole(region)
    print(f"region {region} whole {time.monotonic() - begun:.1f} s later")


def test_the_death_of_the_primarys_host_costs_no_acknowledged_write_and_no_read(whole, client):
    fault = faults.HostKilled(whole)
    with client("a") as ledger:
        fault.begin()
        ledger.goes_on()
    assert whole.leader("a") != fault.victim.name
    survives(ledger, "a")
    comes_back(whole, "a", fault.end)
    assert beyond_the_fork(whole, "a") == []


def beyond_the_fork(cluster, region):
    """The WAL files in a region's bucket that continue beyond the start of the last timeline: no standby and no restore may meet one.

    What a region had saved of its own before it was lost, and the other had not received, stays there.
    """
    leader = next(place.address for place in plan.databases(region) if place.name == cluster.leader(region))
    timeline, fork, *_ = cluster.get(f"https://{leader}:8008/history")[-1]
    listing = cluster.ssh(f"{region}-s3", "find", f"{storage.BUCKETS}/", "-type", "f", "-path", f"*/archive/{region}/*")
    files = re.findall(rf"/({timeline:08X})([0-9A-F]{{8}})([0-9A-F]{{8}})-[0-9a-f]{{40}}", listing)
    return [timeline + log + segment for timeline, log, segment in files if (int(log, 16) << 32) + (int(segment, 16) + 1 << 24) > fork]


@pytest.mark.long
def test_a_primary_that_freezes_costs_no_acknowledged_write_and_no_read(whole, client):
    fault = faults.HostFrozen(whole)
    with client("a") as ledger:
        fault.begin()
        ledger.goes_on()
        comes_back(whole, "a", fault.end)
        ledger.goes_on()
    assert whole.leader("a") != fault.victim.name
    survives(ledger, "a")


@pytest.mark.long
def test_a_data_volume_that_fills_up_again_hands_the_primary_over_again(whole, client):
    with client("a") as ledger:
        for _ in range(2):
            fault = faults.DiskFull(whole)
            fault.begin()
            # Writes continue in existing files, so acknowledgements alone prove nothing yet.
            before = (None, fault.victim.name)
            nspawn.wait_until(lambda before=before: whole.leader("a") not in before, "another host leads", 60)
            ledger.goes_on()
            comes_back(whole, "a", fault.end)
            whole.playbook("switchover.yml", "-e", "target_region=a", "-e", f"patroni_candidate={fault.victim.name}")
            ledger.goes_on()
    survives(ledger, "a")


def test_a_switchover_costs_no_write_and_no_read(whole, client):
    # A zone in which no service host is: the next test cuts it off.
    if whole.leader("a") == "a-db3":
        whole.playbook("switchover.yml", "-e", "target_region=a")
    with client("a") as ledger:
        whole.playbook("switchover.yml", "-e", "target_region=a", "-e", "patroni_candidate=a-db3")
        ledger.goes_on()
    assert whole.leader("a") == "a-db3"
    survives(ledger, "a")


def test_a_zone_that_is_cut_off_with_the_primary_costs_no_acknowledged_write_and_no_read(whole, client):
    fault = faults.ZoneCut(whole)
    with client("a") as ledger:
        fault.begin()
        ledger.goes_on()
        comes_back(whole, "a", fault.end)
        ledger.goes_on()
    survives(ledger, "a")
    assert beyond_the_fork(whole, "a") == []


@pytest.mark.long
def test_a_commit_waits_for_a_second_copy_which_the_other_region_may_hold(whole, client):
    primary = whole.leader("a")
    replicas = [place.name for place in plan.databases("a") if place.name != primary]
    others = [place.name for place in plan.databases("b")]
    with client("a") as ledger:
        stop(whole, replicas)
        ledger.goes_on()
        stop(whole, others)
        nspawn.wait_until(lambda: whole.sql("a", "select count(*) from pg_stat_replication") == ["0"], "no standby is connected")
        alone = time.monotonic()
        commit = "timeout 20 runuser -u postgres -- psql -X -c \"select pg_logical_emit_message(true, 'test', 'alone')\""
        assert whole.operator(*whole.ssh_command(primary, commit), capture_output=True, timeout=60).returncode == 124
        back = time.monotonic()
        for host in (*replicas, *others):
            whole.ssh(host, "systemctl start patroni")
        ledger.goes_on(120)
    # Answers of writes that were confirmed before may still have been on their way.
    assert [end for end in ledger.ends() if alone + 5 < end < back] == []
    assert ledger.lost("a") == []
    for region in whole.regions():
        whole.wait_until_whole(region)


def stop(cluster, hosts):
    for host in hosts:
        cluster.ssh(host, "systemctl stop patroni")


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


REFUSE = "table inet trial { chain out { type filter hook output priority 0; tcp dport 5432 reject with tcp reset; }; }"


@pytest.mark.long
def test_a_switchover_waits_for_a_member_that_turns_round(whole):
    """A member that runs and does not stream yet, as after a run that was killed when the primary had just moved."""
    leader = whole.leader("a")
    replica = next(place.name for place in plan.databases("a") if place.name != leader)
    lost = f"select count(*) from pg_stat_replication where application_name = '{replica}'"
    whole.machines[replica].inside("nft", REFUSE)
    try:
        end = f"select pg_terminate_backend(pid) from pg_stat_replication where application_name = '{replica}'"
        whole.sql("a", end)
        nspawn.wait_until(lambda: whole.members("a")[replica]["state"] != "streaming" and whole.sql("a", lost) == ["0"], "it does not stream")
        playing = Playing(whole, "switchover.yml", "target_region=a").start()
        nspawn.wait_until(lambda: "FAILED - RETRYING" in playing.output() or playing.is_over(), "it waits, or refuses", 120)
    finally:
        whole.machines[replica].inside("nft", "delete table inet trial")
    assert playing.wait() == 0, playing.output()
    assert whole.leader("a") != leader


@pytest.mark.long
def test_empty_hosts_take_the_places_of_lost_ones(whole, client):
    lost = [whole.leader("a"), "b-db2", "a-app2"]
    with client("a") as ledger:
        for name in lost:
            whole.replace(whole.machines[name])
        whole.playbook("site.yml")
        ledger.goes_on()
    for region in "ab":
        whole.wait_until_whole(region)
        assert len(etcd(whole, region)) == 3
    assert whole.leader("a") != lost[0]
    assert ledger.lost("a") == []
    assert whole.http_status(f"http://{whole.machines['a-app2'].address}:8080/healthz") == "200"


def etcd(cluster, region):
    """The members of a region's etcd that started."""
    tls = "--cacert=/etc/ssl/cluster/ca.crt --cert=/etc/ssl/cluster/host.crt --key=/etc/ssl/cluster/host.key"
    said = cluster.ssh(plan.databases(region)[0].name, "etcdctl", *tls.split(), "--endpoints=https://127.0.0.1:2379", "member", "list")
    return [line for line in said.splitlines() if ", started, " in line]


@pytest.mark.long
def test_an_empty_host_founds_no_cluster_while_others_hold_data(whole):
    others = ("b-db2", "b-db3")
    whole.replace(whole.machines["b-db1"])
    for name in others:
        whole.ssh(name, "systemctl", "stop", "etcd")
    refused = whole.playbook("site.yml", check=False, stdout=subprocess.PIPE)
    assert refused.returncode != 0
    assert "etcd of region b does not answer, and b-db2, b-db3 may hold its data" in re.sub(r"\s+", " ", refused.stdout)
    for name in others:
        whole.ssh(name, "systemctl", "start", "etcd")
    whole.playbook("site.yml")
    assert len(etcd(whole, "b")) == 3
