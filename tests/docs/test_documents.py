"""What documents name is there, and what is there has a document."""

import re

import pytest

import readme
from conftest import TOP, run, tasks, tracked
from docs.runbooks import pages as runbooks
from lab.trials import ailments, faults, pages, playbooks

DOCUMENTS = tracked("*.md")


def anchors(document):
    """The anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def blocks(document):
    """The commands of a document's shell blocks."""
    for block in re.findall(r"^```sh[^\n]*\n(.*?)^```", document.read_text(), re.M | re.S):
        yield from (line.strip() for line in block.splitlines())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_commands_are_there(document):
    for line in blocks(document):
        if match := re.match(r"(?:sudo )?\./dev(?: ([\w-]+))?", line):
            assert match.group(1) in tasks(), line
        elif match := re.match(r"((?:ami|ansible|bench|cluster|packaging|terraform|tests)/[\w./-]+)", line):
            assert (TOP / match.group(1)).exists(), line
        if match := re.search(r"(?:cluster play|dev play|ansible-playbook.*?) ([\w-]+\.yml)", line):
            assert (TOP / "ansible" / match.group(1)).exists(), line


def test_every_playbook_has_its_page():
    playbooks = {path.stem for path in (TOP / "ansible").glob("*.yml")}
    assert playbooks - runbooks.PAGES.keys() == set()


def test_every_block_of_a_runbook_says_where_the_tests_run_it():
    assert {block.page for block in runbooks.blocks()} == runbooks.PAGES.keys()
    assert [(block.page, block.mark) for block in runbooks.blocks() if block.mark not in runbooks.MARKS] == []


def test_every_runbook_is_run_on_its_fault_or_says_why_not():
    tables = [pages.PLAYBOOKS, pages.ALERTS, pages.BY_TEST, pages.NOT_RUN]
    assert sorted(page for table in tables for page in table if table is not pages.ALERTS or page not in pages.PLAYBOOKS) == sorted(runbooks.PAGES)
    for named in pages.BY_TEST.values():
        file, _, test = named.partition("::")
        assert f"def {test}(" in (TOP / "lab/tests" / file).read_text(), named


def test_a_runbook_that_is_run_has_its_row_and_a_check_that_it_worked():
    checked = {block.page for block in runbooks.blocks() if block.mark in runbooks.CHECKS}
    assert (pages.PLAYBOOKS.keys() | pages.ALERTS.keys()) - checked == set()
    assert pages.PLAYBOOKS.keys() - {block.page for block in runbooks.blocks() if block.mark == "playbook"} == set()
    assert {entry.fault for entry in pages.ALERTS.values()} - (faults.TABLE.keys() | ailments.TABLE.keys()) == set()
    assert set(pages.PLAYBOOKS.values()) - playbooks.TABLE.keys() == set()
    for page, entry in pages.ALERTS.items():
        row = runbooks.row(*(entry.then or (page, entry.row)))
        assert runbooks.row(page, entry.row)
        # Where commands can be taken from the page, nobody does it in its place.
        assert bool(row.commands()) != entry.in_words or row.links(), page


def test_pictures_are_what_their_sources_say():
    run("./dev", "docs", "--check")


def test_the_notes_of_a_release_are_refused_for_another_version():
    with pytest.raises(Exception) as refused:
        run("packaging/release-notes", "v0.0.0")
    assert "the tag v0.0.0 is not" in refused.value.stderr


@pytest.mark.parametrize("beginning", [readme.PREPARE, readme.RUN, readme.ASK, readme.INSTALL, readme.CLUSTER])
def test_a_block_that_the_walk_follows_is_there(beginning):
    assert readme.block(beginning)


def test_the_walk_knows_a_greeting():
    assert re.search(readme.greeting(), '{"message":"Hello, ada! Your birthday is in 7 day(s)"}')
    assert not re.search(readme.greeting(), '{"message":"Hello, ada! Your birthday is in no day(s)"}')
