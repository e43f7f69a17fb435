"""A measured figure in a page is the one that its source has: the pages that programs write, or the records of a run."""

import re

import pytest

import test_style
from test_facts import SETTINGS, text

PAGES = test_style.PAGES
# What `[19 to 26 s](faults.md)` without a fault sums up: the loss of the primary's host or zone.
FAILOVER = ("host-killed", "host-frozen", "zone-cut")


def number(shown):
    return float(shown.replace(",", ""))


def gaps():
    """The write gaps of each fault in docs/faults.md: name → (least, median, greatest)."""
    rows = re.findall(r"^\| \[([\w-]+)\]\(#\1\) \| \d+ \| ([\d.]+), ([\d.]+), ([\d.]+) \|", text("docs/faults.md"), re.M)
    return {name: tuple(map(float, figures)) for name, *figures in rows}


GAPS = gaps()


def measured(fault):
    """How a page may quote the write gap of a fault."""
    least, median, greatest = GAPS[fault] if fault else (min(GAPS[name][0] for name in FAILOVER), None, max(GAPS[name][2] for name in FAILOVER))
    quotes = {f"{least:.0f} to {greatest:.0f} s"}
    return quotes | {f"about {median:.0f} s"} if median else quotes


QUOTED = [(page, *found) for page in PAGES for found in re.findall(r"\[([^]]*\d s)\]\([\w./]*faults\.md#?([\w-]*)\)", text(page))]


def test_there_are_figures_to_compare():
    assert {"host-killed", "region-lost", "switchover"} <= GAPS.keys()
    assert len(QUOTED) > 5


@pytest.mark.parametrize(("page", "quoted", "fault"), QUOTED)
def test_the_time_of_a_fault_is_the_measured_one(page, quoted, fault):
    assert quoted in measured(fault)


def waits(page):
    """Each sentence that says for how many seconds writes wait."""
    marked = re.sub(r"\[[^]]*\d s\]\(\S*(?:faults|major-switch)\.md\S*\)", "MEASURED", text(page))
    marked = re.sub(r"`(?:lab/tests/run|\./dev) [^`]+`", "COMMAND", marked)
    for sentence in (*test_style.sentences(marked), *test_style.cells(marked)):
        if re.search(r"\bwrites?\b.*\bwait", sentence, re.I) and re.search(r"\d s\b", sentence):
            yield sentence


# What people rely on; the pages that programs write are the source.
RELIED_ON = [page for page in PAGES if page.startswith(("README.md", "docs/")) and page not in test_style.RULES["references"]["files"]]


@pytest.mark.parametrize("page", RELIED_ON)
def test_a_wait_of_writes_has_its_source_beside_it(page):
    patience = SETTINGS["DOB_API_WRITE_PATIENCE"][0].replace("s", " s")
    for sentence in waits(page):
        stated = re.findall(r"[\d.]+ s\b", sentence)
        assert "COMMAND" in sentence or set(stated) <= {patience, "0.1 s"}, f"link to a fault, or name the command that measures: {sentence}"


def table(page, heading):
    """The rows of a page's table whose first line begins so, as texts."""
    lines = text(page)[text(page).index(f"\n{heading}") + 1 :].splitlines()[2:]
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_sum_of_the_roll_outs_is_the_sum_of_their_table():
    rows = list(table("docs/roll-out.md", "| roll-out |"))
    page = text("docs/roll-out.md")
    [(requests, failed)] = re.findall(r"\*\*([\d,]+) requests, (none|\d+) failed", page)
    # The load also runs between the roll-outs, while the next version is built.
    [during] = re.findall(r"Of these requests, ([\d,]+) fell into\s+the roll-outs of the table", page)
    assert number(during) == sum(number(row[2]) for row in rows) <= number(requests)
    assert (failed == "none") == all(row[3] == "0" for row in rows)


def test_the_page_of_reliability_has_the_figures_of_faults_and_pairs():
    page = text("docs/reliability.md")
    users, faults, operations, wrong = re.search(
        r"\*\*Histories\*\* of ([\d,]+) users through (\d+) faults: ([\d,]+) operations checked, (\d+) ", text("docs/faults.md")
    ).groups()
    assert f"few users through {faults} faults" in page and f"{operations} operations, {users} users: all linearizable" in page and wrong == "0"
    rows = list(table("docs/pairs.md", "| no. |"))
    acknowledged, lost = (sum(number(row[column]) for row in rows) for column in (6, 9))
    assert f"the first {len(rows)} of " in page and f"{acknowledged:,.0f} writes acknowledged, none lost" in page and lost == 0
    assert all(row[-1] == "yes" for row in rows)


def test_capacity_has_the_figures_of_speed():
    page, speed = text("docs/capacity.md"), text("docs/speed.md")
    rate = {}
    for method in ("GET", "PUT"):
        chapter = speed.partition(f"### {method}, 64 connections")[2]
        rate[method], cpu = re.search(r"^\| dob-api \| ([\d,]+) .*\| ([\d. +]+) \|$", chapter, re.M).groups()
        if method == "GET":
            service, database = cpu.split(" + ")
    [growth] = re.findall(r"^\| CPU \w+ GET, 10 million users against 10 thousand \| ([\d.]+) ×", speed, re.M)
    assert f"{rate['GET']} GET/s, {rate['PUT']} PUT/s" in page
    assert f"{service} + {database} µs; {growth} times as much with 10 million users" in page
    statement, name = re.search(r"40 µs per statement plus ([\d.]+) µs per name", page)[0], re.search(r"plus ([\d.]+) µs", page)[1]
    assert statement and re.search(rf"{name} µs (?:a|per) name on the index and 40 µs (?:a|per) statement", " ".join(speed.split()))


def test_the_way_to_aws_has_the_costs_of_terraform():
    estimates, page = text("terraform/README.md"), " ".join(text("docs/deploy-aws.md").split())
    [month] = re.findall(r"^\| `small`, .*\| (\d+) \|$", estimates, re.M)
    [nat] = re.findall(r"`nat` adds (\d+)", " ".join(estimates.split()))
    assert set(re.findall(r"(\d+) dollars", page)) == {month}
    assert f"and {nat} for `nat`" in page
    [processors] = re.findall(r"^\| `small` \| \d+ \| \d+ \| (\d+) \|", estimates, re.M)
    assert f"you need {processors} per region" in page


def test_a_run_that_calls_itself_too_noisy_is_quoted_as_rough():
    if "Too noisy" in text("docs/speed.md"):
        assert [row for row in table("docs/capacity.md", "| | figure | source") if "./dev bench" in row[2] and not row[1].startswith("*rough*")] == []
        assert "speed.md) shows" not in text("README.md")


def test_a_trial_that_broke_a_promise_is_not_shown_as_the_typical_one():
    page = text("docs/faults.md")
    broken = set(re.findall(r"^- [\w-]+, seed (\d+), number (\d+):", page, re.M))
    shown = set(re.findall(r"Number (\d+) of seed (\d+), the median:", page))
    assert {(seed, trial) for trial, seed in shown} & broken == set()
