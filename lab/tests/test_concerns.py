"""One concern of site at a time: each tag of the README has tasks of its own, and applies nothing else."""

import json
import os
import re
import subprocess
import sys

import pytest

from test_delivered import leader_of, parameter, settings, site
from test_region import recap
from tools import TOP

PLAYBOOK = f"{os.path.dirname(sys.executable)}/ansible-playbook"
README = (TOP / "ansible/README.md").read_text()
TABLE = README.partition("## One concern at a time")[2].partition("\n## ")[0]
CONCERNS = re.findall(r"^\| `(\w+)` \|", TABLE, re.M)
# A task that no other concern has.
OWN = {
    "certificates": "certificates : Sign the requests",
    "monitoring": "monitoring : Install Prometheus",
    "etcd": "etcd : Start etcd",
    "backup": "pgbackrest : Install and configure pgBackRest",
    "patroni": "patroni : Configure the start gate",
    "service": "service : Install the service",
}


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """The tasks of site with their tags. No host is asked for that."""
    inventory = tmp_path_factory.mktemp("inventory") / "hosts.json"
    groups = {"database": "a-db1", "service": "a-app1", "monitoring": "a-monitor"}
    everyone = {name: {"region": "a"} for name in groups.values()}
    # Which hosts can be reached is known only in a run.
    children = {group: {"hosts": {name: {}}} for group, name in groups.items()}
    children |= {"site_present": {"hosts": everyone}, "region_a": {"hosts": everyone}}
    inventory.write_text(json.dumps({"all": {"children": children}}))
    command = (PLAYBOOK, "--inventory", inventory, "site.yml", "--list-tasks")
    said = subprocess.run(command, cwd=TOP / "ansible", check=True, capture_output=True, text=True, timeout=120).stdout
    return [(task.strip(), set(tags.split(", "))) for task, tags in re.findall(r"^      (.+)\tTAGS: \[(.*)\]$", said, re.M)]


def test_the_readme_lists_the_tags_that_there_are(listed):
    assert set().union(*(tags for _, tags in listed)) - {"always"} == set(CONCERNS) == set(OWN)


@pytest.mark.parametrize("concern", CONCERNS)
def test_a_tag_has_the_tasks_of_its_concern_and_of_no_other(listed, concern):
    tagged = [task for task, tags in listed if concern in tags]
    assert any(task.startswith(OWN[concern]) for task in tagged)
    # What loads certificates belongs to their concern.
    own = {concern, "etcd", "patroni"} if concern == "certificates" else {concern}
    assert [name for name, other in OWN.items() if name not in own and any(task.startswith(other) for task in tagged)] == []


def test_every_task_of_site_has_a_tag(listed):
    assert [task for task, tags in listed if not tags & {"always", *CONCERNS}] == [] and len(listed) > 60


@pytest.mark.long
@pytest.mark.parametrize("concern", CONCERNS)
def test_a_run_with_one_tag_on_a_whole_cluster_changes_nothing(whole, concern):
    changes = recap(whole.playbook("site.yml", f"--tags={concern}", stdout=subprocess.PIPE).stdout)
    assert len(changes) >= 10 and set(changes.values()) == {0}


@pytest.mark.long
def test_a_setting_of_another_concern_is_left_alone(whole):
    wanted = settings({"work_mem": "6MB"})
    hosts = [leader_of(whole, region) for region in whole.regions()]
    site(whole, "--tags=etcd", *wanted)
    assert {parameter(whole, host, "work_mem") for host in hosts} == {"4MB"}
    site(whole, "--tags=patroni", *wanted)
    assert {parameter(whole, host, "work_mem") for host in hosts} == {"6MB"}
    site(whole, "--tags=patroni")
    assert {parameter(whole, host, "work_mem") for host in hosts} == {"4MB"}
