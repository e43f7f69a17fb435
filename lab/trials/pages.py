"""Which fault each page of the runbooks is run on; of the others, why not.

`lab/tests/test_pages.py` makes the fault, runs the page's commands where the page says, and waits for its check.
"""

import typing

# A playbook's page is run line by line, each from the state that `playbooks.py` prepares under this name.
PLAYBOOKS = {
    "switchover": "switchover",
    "site": "site",
    "backup": "backup",
    "restore-drill": "restore-drill",
    "minor-upgrade": "minor-upgrade",
    "rotate": "rotate",
    "add-host": "add-host",
    "remove-host": "remove-host",
    "alerts/backup": "backup",
    "alerts/restore-drill": "restore-drill",
}


class Entry(typing.NamedTuple):
    """How the page of an alert is followed."""

    # The name of a fault in `faults.py` or `ailments.py`.
    fault: str
    # What the first cell of the row contains that fits it.
    row: str
    # What the page's commands show while the fault lasts: a pattern.
    shows: str
    # Where the commands of the row are run, as block marks name places; "host" is where the fault is.
    on: str = "host"
    # The page to which the row leads, with its row, where this page has no command of its own.
    then: tuple[str, str] | None = None
    # Whether the row says in words what is done, so that ending the fault does it.
    in_words: bool = False


ALERTS = {
    "alerts/archive": Entry("s3-unreachable", "timeout", "ERROR", in_words=True),
    "alerts/certificate": Entry("certificate-ends", "both end soon", "notAfter", on="operator"),
    "alerts/disk": Entry("disk-filling", "`a.TIME`", r"/a\.\d+T", in_words=True),
    "alerts/etcd": Entry("etcd-stopped", "a member is not active", "failed|true"),
    "alerts/host": Entry("unit-failed", "a unit failed", "failed"),
    "alerts/leader-changed": Entry("host-killed", "the host was down", "promot|lock", in_words=True),
    "alerts/logs": Entry("upload-stopped", "upload is not active", "Active: inactive"),
    "alerts/member": Entry("member-stopped", "not active", "inactive"),
    "alerts/monitoring": Entry("configuration-broken", "a check fails", "FAILED", on="operator"),
    "alerts/service": Entry("service-stopped", "not active", "inactive"),
    "alerts/slot": Entry("member-stopped", "a member's slot, inactive", r"active +\| f", then=("alerts/member", "not active")),
    "alerts/watchdog": Entry("prometheus-stopped", "not active", "inactive", on="monitor"),
}

# These change what a cluster is for longer than a page should: the tests named run what they say.
DEAD_REGION = "test_two_regions.py::test_a_dead_region_is_replaced_waits_when_it_returns_and_leads_again"
ASIDE = "test_aside.py::test_rows_as_of_a_time_are_read_aside_copied_back_and_nothing_is_left"
MAJOR = "test_version.py::test_a_major_upgrade_costs_no_request_and_has_a_way_back"
BY_TEST = {
    "failback": DEAD_REGION,
    "failover-region": DEAD_REGION,
    "rejoin": DEAD_REGION,
    "decide-region": DEAD_REGION,
    "etcd-rebuild": "test_upkeep.py::test_an_etcd_that_lost_its_data_is_rebuilt_and_the_region_has_failover_again",
    "restore": "test_backup.py::test_a_region_lost_with_its_bucket_is_replaced_saved_and_restored_to_a_point_in_time",
    "restore-aside": ASIDE,
    "alerts/restore-aside": ASIDE,
    "major-upgrade": MAJOR,
    "major-switch": MAJOR,
    "major-finish": MAJOR,
    "restart": "test_delivered.py::test_hosts_that_wait_for_a_restart_get_it_in_rolling_order_without_a_failed_request",
    "alerts/role-settings": "test_trust.py::test_a_stolen_service_password_stops_writes_only_until_site_runs",
    "upgrade-packages": "test_upgrades.py::test_an_upgrade_of_all_packages_costs_no_request_though_it_is_killed_half_way",
    "alerts/upgrades": "test_upgrades.py::test_a_host_that_asks_for_a_reboot_gets_one_alone_and_its_alert_ends",
    "resize": "test_resize.py::test_each_host_is_stopped_alone_the_primary_last_and_no_request_fails",
    "alerts/pages": "test_backup.py::test_damaged_pages_are_found_and_a_backup_of_them_is_never_chosen",
    "alerts/backup-damaged": "test_backup.py::test_what_is_damaged_or_missing_in_a_bucket_is_noticed",
}

NOT_RUN = {
    "restore-versions": "the object store of this cluster keeps no versions: test_versions.py runs its playbook on one that does",
    "erase": "its commands delete a person, and the balancer's logs are the cloud's",
    "alerts/wraparound": "PostgreSQL needs 500 million transactions for it, which nothing here writes",
    "alerts/transactions": "the session that it ends is somebody's, who is asked first",
    "alerts/inodes": "the root of a host here is a folder of this machine, whose inodes are not used up for a test",
    "alerts/read-only": "the kernel refuses writes after an error of the disk, which nothing here provokes",
    "alerts/figures": "FiguresOld needs a figure that is an hour old",
    "alerts/no-primary": "it is a decision tree over other pages: etcd, member and failover-region",
    "alerts/postgresql": "a paused Patroni is somebody's decision, and a pending restart needs a setting that nothing here changes",
    "alerts/region-silent": "what it has done is failover-region, or nothing: the other region is asked by a person",
    "alerts/replication-lag": "lag of a page's size needs more writes than the machine of the cluster can carry",
    "alerts/requests-fail": "it leads to other pages by what the service says",
    "alerts/timeline": "a member that does not follow needs a failed rewind, which nothing here can provoke",
    "alerts/two-primaries": "nothing here makes two primaries for as long as a person needs to read",
}
