"""What a roll-out promises: no request fails, whether the new version is good or never becomes healthy."""

from lab.trials.rehearsal import Rehearsal
from lab.trials.versions import next_version

WARM_UP = 3


def versions(cluster):
    """Which version each service host of region a has."""
    names = [place.name for place in cluster.places("service", "a")]
    return {name: cluster.ssh(name, "dpkg-query --show --showformat '${Version}' dob-api") for name in names}


def test_hosts_are_replaced_twice_and_a_version_that_never_becomes_healthy_is_taken_back(whole):
    with Rehearsal(whole, "a", 1000, print) as under_load:
        for serving in (["a-app1b", "a-app2b"], ["a-app1", "a-app2"]):
            version = next_version(whole)
            assert under_load.roll_out(version, warm_up=WARM_UP) is None
            assert versions(whole) == dict.fromkeys(serving, version)
        before = versions(whole)
        reason = under_load.roll_out(next_version(whole, broken=True), patience=20, warm_up=WARM_UP)
    assert reason.endswith("was rolled back: not within 20 s: every new host healthy")
    assert versions(whole) == before
    assert under_load.failures() == []
    assert under_load.load.lost() == 0
