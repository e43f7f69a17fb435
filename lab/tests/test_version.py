"""What the upgrade to the next major version promises. It comes last: the cluster is at that version afterwards."""

import json
import re

import pytest

from lab.hosts import nspawn, plan
from lab.trials import regions, versions
from test_region import survives
from test_upkeep import archive, asked, refused

__all__ = ["archive"]
OLD = plan.POSTGRESQL
NEW = OLD + 1
# Debian's current 18 is older than its 17, which marks columns in a way that it does not know.
UNMARK = "update pg_attribute set attoptions = null where attrelid = 'users'::regclass"


def wanted(**regions):
    return "-e", json.dumps({"postgresql_versions": regions})


MIXED = wanted(b=NEW)


def ask(cluster, region, statement):
    """What a member of a region answers of the service's database, whether the region is primary or standby."""
    return asked(cluster, plan.databases(region)[0].name, f"\\c dob\n{statement}").splitlines()[-1]


def version(cluster, region):
    return int(ask(cluster, region, "show server_version_num")) // 10000


def same_rows(cluster):
    rows = "select count(*), sum(hashtextextended(u::text, 0)::numeric) from users u"
    return ask(cluster, "a", rows) == ask(cluster, "b", rows)


@pytest.mark.parametrize(
    ("playbook", "arguments", "reason"),
    [
        ("major-upgrade.yml", ("-e", "target_region=b"), f"region b runs PostgreSQL {OLD}, and the inventory asks for {OLD}"),
        ("site.yml", wanted(b=NEW), f"PostgreSQL runs in /var/lib/postgresql/{OLD}/b on b-db[123], and the inventory asks for version {NEW}"),
        ("major-switch.yml", ("-e", "target_region=b"), "region [ab] is no logical replica of region [ab]"),
        *(
            pytest.param(*others, marks=pytest.mark.long)
            for others in [
                ("major-upgrade.yml", ("-e", "target_region=a", *wanted(a=NEW)), "region a takes writes: upgrade the standby region"),
                ("major-upgrade.yml", ("-e", "target_region=b", *wanted(b=99)), "no package source of b-db[123] has postgresql-99"),
                ("major-finish.yml", ("-e", "target_region=b"), "region b is a standby already: there is nothing to finish"),
                ("major-finish.yml", ("-e", "target_region=a"), "region b takes no writes"),
            ]
        ),
    ],
)
def test_a_major_upgrade_that_cannot_be_meant_is_refused(whole, playbook, arguments, reason):
    assert re.search(reason, refused(whole, playbook, *arguments))


@pytest.fixture
def upgraded(whole, archive, client):
    """Region b runs the newer version and takes writes; region a follows it by logical replication."""
    versions.next_major(whole, f"postgresql-{NEW}")
    whole.sql("a", UNMARK, "dob")
    with client("a") as ledger:
        whole.playbook("major-upgrade.yml", "-e", "target_region=b", *MIXED)
        ledger.goes_on()
    survives(ledger, "b")
    assert version(whole, "b") == NEW
    return whole


@pytest.mark.long
def test_the_newer_version_lost_with_its_region_leaves_the_older_one(upgraded, client):
    with client("a") as ledger:
        upgraded.cloud.cut("b")
        upgraded.playbook("failover-region.yml", "-e", "target_region=a", *MIXED)
        ledger.goes_on()
    print(ledger.figures())
    assert ledger.failed("GET") == [] and ledger.failed("PUT") == []
    # What region a had not received: it is counted, and stays with region b.
    print(f"{len(ledger.lost('a'))} writes had not arrived")

    regions.end_loss(upgraded, "b")
    nspawn.wait_until(lambda: regions.waits(upgraded, "b"), "region b waits, for the other one takes writes", 120)
    with client("a") as ledger:
        upgraded.playbook("major-finish.yml", "-e", "target_region=b")
        ledger.goes_on()
    survives(ledger, "a")
    upgraded.wait_until_whole("b")
    assert (version(upgraded, "a"), version(upgraded, "b")) == (OLD, OLD)
    nspawn.wait_until(lambda: same_rows(upgraded), "both regions have the same rows", 60)


@pytest.mark.long
def test_a_major_upgrade_costs_no_request_and_has_a_way_back(upgraded, client):
    new = wanted(a=NEW, b=NEW)
    with client("b") as ledger:
        upgraded.playbook("major-switch.yml", "-e", "target_region=a", *MIXED)
        ledger.goes_on()
        upgraded.playbook("major-switch.yml", "-e", "target_region=b", *MIXED)
        ledger.goes_on()
    survives(ledger, "b")
    nspawn.wait_until(lambda: same_rows(upgraded), "both regions have the same rows", 60)
    with client("b") as ledger:
        upgraded.playbook("major-finish.yml", "-e", "target_region=a", *new)
        upgraded.playbook("failback.yml", "-e", "target_region=a", *new)
        ledger.goes_on()
    survives(ledger, "a")
    assert (version(upgraded, "a"), version(upgraded, "b")) == (NEW, NEW)
