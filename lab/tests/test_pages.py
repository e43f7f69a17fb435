"""Every runbook is followed as it is written, on the fault that it is for; `lab/trials/pages.py` says which that is."""

import random
import re

import pytest

from docs.runbooks import pages as runbooks
from lab.hosts import nspawn
from lab.trials import ailments, faults, pages, playbooks, promises
from lab.trials.reader import EXAMPLE, Reader

LINES = [
    (page, line)
    for page in pages.PLAYBOOKS
    for block in runbooks.blocks()
    if (block.page, block.mark) == (page, "playbook")
    for line in block.commands.splitlines()
]
# A check may have to wait for what a cure set going.
CHECK_S = 180


@pytest.mark.long
@pytest.mark.parametrize(("page", "line"), LINES)
def test_each_command_of_a_playbooks_page_runs_as_it_is_written(whole, tmp_path, page, line):
    subject = playbooks.TABLE[pages.PLAYBOOKS[page]](whole, random.choice)
    subject.prepare()
    # The page's candidate is a host that does not lead.
    if "patroni_candidate" in line and whole.leader("a") == EXAMPLE:
        whole.playbook("switchover.yml", "-e", "target_region=a")
    done = Reader(whole, tmp_path).run("playbook", line)
    assert done.returncode == 0, done.stdout
    check(Reader(whole, tmp_path), page)
    subject.afterwards()
    assert promises.broken(whole) == []


@pytest.mark.long
@pytest.mark.parametrize("page", pages.ALERTS)
def test_an_alerts_page_leads_from_its_fault_to_a_whole_cluster(whole, tmp_path, page):
    entry = pages.ALERTS[page]
    kind = (faults.TABLE | ailments.TABLE)[entry.fault]
    kind.prepare(whole)
    fault = kind(whole)
    reader = Reader(whole, tmp_path, fault.victim.name)
    try:
        fault.begin()
        shown = "".join(reader.run(block.mark, block.commands).stdout for block in looks(page))
        assert re.search(entry.shows, shown), f"what the page has its reader look at does not show '{entry.shows}':\n{shown}"
        follow(reader, entry, *(entry.then or (page, entry.row)))
        if entry.in_words:
            assert runbooks.row(page, entry.row).commands() == []
            fault.end()
        check(reader, page)
    finally:
        fault.end()
        whole.mend()
    assert promises.broken(whole) == []


def looks(page):
    """The blocks that only look, of a page."""
    return [block for block in runbooks.blocks() if block.page == page and block.mark in runbooks.PLACES]


def follow(reader, entry, page, shown):
    """Runs what a row says: its commands, and the playbooks to whose pages it leads."""
    row = runbooks.row(page, shown)
    steps = [(entry.on, command) for command in row.commands()]
    steps += [("playbook", block.commands) for link in row.links() for block in runbooks.blocks() if (block.page, block.mark) == (link, "playbook")]
    assert steps or entry.in_words, f"{page} says nothing to do where '{shown}' is shown"
    for where, commands in steps:
        # The page's word for the unit of the alert.
        text = commands.replace("UNIT", ailments.UnitFailed.unit)
        done = reader.run(where, text)
        # `systemctl status` of a failed unit ends with 3, and is there to be read.
        assert done.returncode == 0 or text.startswith("systemctl status"), f"{text}\n{done.stdout}"


def check(reader, page):
    """Waits until every check of a page succeeds; it has to have one."""
    assert [block for block in runbooks.blocks() if block.page == page and block.mark in runbooks.CHECKS], f"{page} has no check"
    failures = []

    def succeeds():
        failures[:] = reader.checks(page)
        return not failures

    try:
        nspawn.wait_until(succeeds, f"'it worked' of {page}", CHECK_S)
    except TimeoutError:
        pytest.fail("\n".join(failures))
