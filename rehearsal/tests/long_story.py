"""The story continued, which takes longer than a suite may: run by 'rehearsal/tests/run --long', behind test_story.py.

It begins where that ends: the version is released, and both regions run it.
"""

import yaml

from rehearsal import story
from rehearsal.place import TOP
from rehearsal.regions import REGIONS
from shared import green, red, stored


def images(account):
    return {region: set(account.images(region)) for region in REGIONS.values()}


def test_a_night_without_newer_packages_publishes_nothing_and_starts_no_roll_out(place, account):
    before = images(account)
    green(story.updates(place))
    assert images(account) == before and stored(place, "started.json") is None


def test_updates_into_an_environment_that_is_not_there_change_nothing(place, account):
    answers, before = place.settings["answers"], images(account)
    kept = answers.pop("/environments/updates")
    place.save_settings()
    ended = story.updates(place)
    answers["/environments/updates"] = kept
    place.save_settings()
    red(ended, "the environment updates does not exist")
    assert list(ended.jobs) == ["guard"] and images(account) == before


def test_newer_packages_are_published_in_both_regions_and_rolled_out_with_approval(place, account):
    before = images(account)
    (place.state / "debian").write_text("openssl 3.5.1-1+deb13u1\n")
    green(story.updates(place))
    added = {f"dob-api-{place.version}-{arch}-2" for arch in ("amd64", "arm64")}
    assert images(account) == {region: names | added for region, names in before.items()}
    # No host is replaced yet: the deploy that was started waits for its reviewers.
    (started,) = stored(place, "started.json")
    assert started == {"workflow": ".github/workflows/deploy.yml", "inputs": {"image": place.version}}
    first = {letter: {account.images(region)[f"dob-api-{place.version}-amd64-1"]["ImageId"]} for letter, region in REGIONS.items()}
    assert {letter: set(account.running(letter)) for letter in REGIONS} == first
    green(story.deploy(place, started["inputs"]["image"]))
    for letter, region in REGIONS.items():
        assert set(account.running(letter)) == {account.images(region)[f"dob-api-{place.version}-amd64-2"]["ImageId"]}
    green(story.updates(place))
    assert len(stored(place, "started.json")) == 1, "what runs everywhere is not rolled out again"


def test_a_role_is_refused_nothing_that_a_night_of_updates_asks_for(account):
    calls = [call for call in account.calls() if call[0] == "dob-api-workflow-updates"]
    assert calls and [call for call in calls if call[3] == "denied"] == []


def test_a_pull_request_runs_every_suite_on_a_machine_that_has_what_it_needs(place, account):
    ended = story.change(place)
    green(ended)
    suites = yaml.safe_load((TOP / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]["suite"]
    assert sorted((place.state / "suites").read_text().split()) == sorted([*suites, "lint"])


def test_a_suite_that_fails_closes_the_gate_and_holds_no_other_suite_up(place, account):
    (place.state / "suites").unlink()
    (place.state / "failing").write_text("docs\n")
    ended = story.change(place)
    (place.state / "failing").write_text("")
    assert ended.jobs["test"] == ended.jobs["gate"] == "failure" and ended.jobs["lint"] == ended.jobs["packages"] == "success", ended.log[-3000:]
    assert "docs" not in (place.state / "suites").read_text().split() and "service" in (place.state / "suites").read_text().split()
