"""What the upgrade to the next major version promises. It comes last: the cluster is at that version afterwards."""

import json
import re

import pytest

import versions
from test_region import survives
from test_upkeep import archive, asked, refused

__all__ = ["archive"]
OLD, NEW = 17, 18
# Debian's current 18 is older than its 17, which marks columns in a way that it does not know.
UNMARK = "update pg_attribute set attoptions = null where attrelid = 'users'::regclass"


def wanted(**regions):
    return "-e", json.dumps({"postgresql_versions": regions})


def ask(cluster, region, statement):
    """What the region's leader answers of the service's database."""
    return asked(cluster, cluster.leader(region), f"\\c dob\n{statement}").splitlines()[-1]


@pytest.mark.parametrize(
    ("playbook", "arguments", "reason"),
    [
        ("major-upgrade.yml", ("-e", "target_region=b"), "region b runs PostgreSQL 17, and the inventory asks for 17"),
        ("site.yml", wanted(b=NEW), "PostgreSQL runs in /var/lib/postgresql/17/b on b-db[123], and the inventory asks for version 18"),
        ("major-switch.yml", ("-e", "target_region=b"), "region a does not follow region b row by row|region b does not follow region a"),
        *(
            pytest.param(*others, marks=pytest.mark.long)
            for others in [
                ("major-upgrade.yml", ("-e", "target_region=a", *wanted(a=NEW)), "region a takes writes: the newer version comes to the region that"),
                ("major-upgrade.yml", ("-e", "target_region=b", *wanted(b=99)), "no archive that b-db[123] knows holds postgresql-99"),
                ("major-finish.yml", ("-e", "target_region=b"), "region b is a standby already: there is nothing to finish"),
                ("major-finish.yml", ("-e", "target_region=a"), "region b takes no writes"),
            ]
        ),
    ],
)
def test_a_major_upgrade_that_cannot_be_meant_is_refused(whole, playbook, arguments, reason):
    assert re.search(reason, refused(whole, playbook, *arguments))


@pytest.mark.long
def test_a_major_upgrade_costs_no_request_and_has_a_way_back(whole, archive, client):
    versions.next_major(whole, f"postgresql-{NEW}")
    ask(whole, "a", UNMARK)
    mixed, new = wanted(b=NEW), wanted(a=NEW, b=NEW)
    with client("a") as ledger:
        whole.playbook("major-upgrade.yml", "-e", "target_region=b", *mixed)
        ledger.goes_on()
    survives(ledger, "b")
    assert ask(whole, "b", "select current_setting('server_version_num')::int / 10000") == str(NEW)
    with client("b") as ledger:
        whole.playbook("major-switch.yml", "-e", "target_region=a", *mixed)
        ledger.goes_on()
        whole.playbook("major-switch.yml", "-e", "target_region=b", *mixed)
        ledger.goes_on()
    survives(ledger, "b")
    rows = "select count(*), sum(hashtextextended(u::text, 0)::numeric) from users u"
    assert ask(whole, "a", rows) == ask(whole, "b", rows)
    with client("b") as ledger:
        whole.playbook("major-finish.yml", "-e", "target_region=a", *new)
        whole.playbook("failback.yml", "-e", "target_region=a", *new)
        ledger.goes_on()
    survives(ledger, "a")
    assert ask(whole, "a", "select current_setting('server_version_num')::int / 10000") == str(NEW)
