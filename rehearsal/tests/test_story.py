"""From a tag to a greeting, and on to a lost region: the workflow files as they are, one after the other.

The tests build on each other in the order of the file, as a release comes before its deploy.
"""

import json
import re
import urllib.request

import boto3
import botocore
import pytest

from rehearsal import act, story, workflows
from rehearsal.place import ACCOUNT, CLOUD, REPOSITORY, SUBJECT
from rehearsal.regions import REGIONS
from shared import green, red, stored


def test_a_tag_that_is_no_version_publishes_nothing(place, account):
    ended = story.release(place, "v9.9.9")
    red(ended, "the tag v9.9.9 is not")
    assert "success" not in ended.jobs.values() and not account.images(REGIONS["a"]) and not stored(place, "releases.json")


def test_a_release_without_its_key_stops_before_it_publishes(place, account):
    ended = story.release(place, secrets={"APT_SIGNING_KEY": None})
    red(ended, "the secret APT_SIGNING_KEY is not set")
    assert not account.client("s3").list_objects_v2(Bucket=place.variables["APT_BUCKET"]).get("Contents")
    assert not account.images(REGIONS["a"]) and not stored(place, "releases.json")


def test_a_release_that_is_run_again_publishes_everything(place, account):
    green(story.release(place, again=True))
    (release,) = stored(place, "releases.json")
    assert (release["tag_name"], release["draft"]) == (f"v{place.version}", False)
    kinds = (
        "amd64.deb",
        "arm64.deb",
        "linux-amd64.tar.gz",
        "linux-arm64.tar.gz",
        "container.tar",
        "amd64.manifest",
        "arm64.manifest",
        ".cdx.json",
        "SHA256SUMS",
    )
    assert all(any(name.endswith(kind) for name in release["assets"]) for kind in kinds), release["assets"]
    names = {f"dob-api-{place.version}-{arch}-1" for arch in ("amd64", "arm64")}
    assert all(names <= set(account.images(region)) for region in REGIONS.values())
    notes = (place.origin / "CHANGELOG.md").read_text().partition(f"## {place.version} - ")[2].partition("\n## ")[0].partition("\n")[2]
    assert len(notes) > 1000 and notes.strip() in release["body"]


def test_a_release_that_is_published_is_never_changed(place, account):
    before = stored(place, "releases.json")
    environment = {**act.ENVIRONMENT, "GH_TOKEN": place.token, "GH_REPO": f"github.localhost/{REPOSITORY}"}
    container = f"ghcr.io/{REPOSITORY}@sha256:{'0' * 64}"
    script = f"""
        mkdir /tmp/other && cd /tmp/other && echo other >file && sha256sum file >SHA256SUMS
        cd /srv/origin && exec packaging/release v{place.version} /tmp/other {container}
    """
    as_runner = ("sudo", "--user=runner", "env", *(f"{name}={value}" for name, value in environment.items()))
    ended = place.host.run(*as_runner, "bash", "-euc", script, check=False)
    assert ended.returncode == 1 and f"the release v{place.version} is published already: it is never changed" in ended.stderr, ended
    assert stored(place, "releases.json") == before


def test_a_commit_that_is_not_on_main_is_not_released(place, account):
    main, place.settings["main"] = place.settings["main"], "0" * 40
    place.save_settings()
    ended = story.release(place)
    place.settings["main"] = main
    place.save_settings()
    red(ended, "is not on main: merge it first")
    assert list(ended.jobs) == ["guard"]


def test_an_index_is_signed_again_without_what_was_planted(place, account):
    s3, bucket = account.client("s3"), place.variables["APT_BUCKET"]
    before = s3.get_object(Bucket=bucket, Key="dists/stable/InRelease")["Body"].read()
    s3.put_object(Bucket=bucket, Key="pool/main/dob-api_9.9_amd64.deb", Body=b"planted")
    ended = story.refresh(place)
    green(ended)
    assert "pool/main/dob-api_9.9_amd64.deb is left out" in ended.said
    assert s3.get_object(Bucket=bucket, Key="dists/stable/InRelease")["Body"].read() != before
    assert b"9.9" not in s3.get_object(Bucket=bucket, Key="dists/stable/main/binary-amd64/Packages")["Body"].read()


def test_every_file_of_the_release_is_attested_and_so_is_the_container(place):
    (release,) = stored(place, "releases.json")
    attested = {name for one in stored(place, "attestations.json") for name in one["subjects"]}
    assert set(release["assets"]) <= attested
    (digest,) = {
        digest for one in stored(place, "attestations.json") for name, digest in one["subjects"].items() if name == "ghcr.io/dob-api/dob-api"
    }
    assert f"ghcr.io/dob-api/dob-api@sha256:{digest}" in release["body"]
    found = place.host.run(
        "skopeo", "inspect", "--raw", "--creds", f"dob-api:{place.token}", f"docker://ghcr.io/dob-api/dob-api@sha256:{digest}"
    ).stdout
    assert {one["platform"]["architecture"] for one in json.loads(found)["manifests"]} == {"amd64", "arm64"}


def test_a_version_that_is_not_published_is_not_deployed(place, account):
    before = {letter: account.running(letter) for letter in REGIONS}
    ended = story.deploy(place, "8.8.8")
    red(ended, "has no image 8.8.8")
    assert "region-a" not in ended.jobs and {letter: account.running(letter) for letter in REGIONS} == before


def test_a_deploy_without_the_domain_changes_nothing(place, account):
    ended = story.deploy(place, variables={"DOMAIN": None})
    red(ended, "the variable DOMAIN is not set")
    assert list(ended.jobs) == ["guard"]


def test_a_deploy_into_an_environment_without_reviewers_changes_nothing(place, account):
    answers = place.settings["answers"]
    kept = answers["/environments/deploy"]
    answers["/environments/deploy"] = kept | {"protection_rules": []}
    place.save_settings()
    ended = story.deploy(place)
    answers["/environments/deploy"] = kept
    place.save_settings()
    red(ended, "the environment deploy has no required reviewers")
    assert list(ended.jobs) == ["guard"]


@pytest.fixture(scope="module")
def sts(place):
    """The service that gives roles away, as it is asked without a key."""
    return boto3.client("sts", region_name="eu-west-1", endpoint_url=CLOUD, config=botocore.config.Config(signature_version=botocore.UNSIGNED))


def token(asked):
    body = json.dumps({"audience": "sts.amazonaws.com", **asked}).encode()
    return json.loads(urllib.request.urlopen("http://127.0.0.1/token", body).read())["value"]


def taken(sts, role, bearer):
    """Whether the bearer of a token takes a role."""
    arn = f"arn:aws:iam::{ACCOUNT}:role/dob-api-workflow-{role}"
    try:
        return bool(sts.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="test", WebIdentityToken=bearer))
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied", error
        return False


# Ours, by the form of a subject that has numbers and by the older one; a fork; a repository that got our name later; one of another owner.
@pytest.mark.parametrize(
    ("subject", "ours"),
    [(SUBJECT, True), (REPOSITORY, True), ("dob-api@1234/fork@9999", False), ("dob-api@1234/dob-api@9999", False), ("other/dob-api", False)],
)
def test_a_job_of_this_repository_takes_its_own_role_and_no_other(place, account, sts, subject, ours):
    mine, place.settings["subject"] = place.settings["subject"], subject
    place.save_settings()
    tokens = {role: token(asked) for asked, role in workflows.takers()}
    # A token of another repository is tried on the role of its own environment alone: every other role differs twice.
    found = {(own, role) for own in tokens for role in (tokens if ours else [own]) if taken(sts, role, tokens[own])}
    place.settings["subject"] = mine
    place.save_settings()
    assert len(tokens) == 7 and found == ({(role, role) for role in tokens} if ours else set())


def test_another_repository_gets_no_role(place, account):
    mine, place.settings["subject"] = place.settings["subject"], "dob-api@1234/fork@9999"
    place.save_settings()
    ended = story.deploy(place)
    place.settings["subject"] = mine
    place.save_settings()
    red(ended, "does not trust repo:dob-api@1234/fork@9999:environment:deploy")
    assert "region-a" not in ended.jobs


def test_a_deploy_that_fails_in_the_second_region_leaves_it_alone(place, account):
    before = account.running("a")
    alarm = {"AlarmName": "dob-api-a-errors", "StateReason": "the rehearsal"}
    account.client("cloudwatch", REGIONS["a"]).set_alarm_state(StateValue="ALARM", **alarm)
    ended = story.deploy(place)
    account.client("cloudwatch", REGIONS["a"]).set_alarm_state(StateValue="OK", **alarm)
    red(ended, "these alarms ring, and would take it back at once: dob-api-a-errors")
    assert (ended.jobs["region-b"], ended.jobs["region-a"]) == ("success", "failure")
    assert account.running("a") == before and not set(account.running("b")) & set(before)


def test_a_deploy_that_is_run_again_brings_the_version_to_both_regions(place, account):
    green(story.deploy(place))
    for letter, region in REGIONS.items():
        image = account.images(region)[f"dob-api-{place.version}-amd64-1"]["ImageId"]
        assert set(account.running(letter)) == {image}


def test_the_playbook_runs_with_the_authority_and_the_secrets_that_it_reads(place, account):
    red(story.database(place, secrets={"AUTHORITY_KEY": None}), "the secret AUTHORITY_KEY is not set")
    green(story.database(place))
    assert [line.split()[0] for line in (place.state / "played").read_text().splitlines()] == ["site.yml"]


def test_the_drill_reaches_the_hosts_with_its_key(place, account):
    green(story.drill(place))
    red(story.drill(place, secrets={"SSH_KEY": place.secrets["AUTHORITY_KEY"]}), "Permission denied (publickey)")


def test_a_region_that_is_lost_with_its_interface_is_replaced_only_on_a_persons_word(place, account):
    account.lose("a")
    red(story.failover(place, "b"), "nothing proves that they are off")
    assert not (place.state / "played").read_text().count("failover-region.yml")
    green(story.failover(place, "b", override="it's lost, says the operator on call"))
    assert "it's lost" in (place.state / "played").read_text()


def test_once_the_region_is_back_its_hosts_are_fenced_by_the_real_program(place, account):
    account.find_again()
    green(story.failover(place, "b"))
    assert account.states("a") == {"stopped"} and account.states("b") == {"running"}


def test_the_primary_moves_back(place, account):
    ec2 = account.client("ec2", REGIONS["a"])
    found = ec2.describe_instances(Filters=[{"Name": "tag:Role", "Values": ["database"]}])["Reservations"]
    ec2.start_instances(InstanceIds=[host["InstanceId"] for group in found for host in group["Instances"]])
    green(story.failback(place, "a"))


def test_a_fork_gets_no_plan(place, account):
    assert story.plan(place, of="fork/dob-api").jobs == {}


def test_a_pull_request_gets_one_comment_for_the_plan_of_each_root_however_often_it_is_pushed(place, account):
    for _ in range(2):
        green(story.plan(place))
        plans = [comment["body"] for comment in stored(place, "comments.json")]
        assert sorted(plan.splitlines()[1] for plan in plans) == [f"### Plan of `{root}`" for root in ("failover", "global", "primary")]
        assert all(re.search(r"^(Plan: \d+ to add|No changes\.)", plan, re.M) for plan in plans)


def test_a_root_is_applied(place, account):
    ended = story.apply(place)
    green(ended)
    assert "Apply complete!" in ended.said


@pytest.mark.parametrize("role", ["plan", "infra", "release", "deploy", "drill", "database"])
def test_a_role_is_refused_nothing_that_its_workflow_asked_for(account, role):
    calls = [call for call in account.calls() if call[0] == f"dob-api-workflow-{role}"]
    assert calls and [call for call in calls if call[3] == "denied"] == []
