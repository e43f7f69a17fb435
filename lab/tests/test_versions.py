"""What was overwritten or deleted in a bucket comes back from its versions, or from the copies of the other region."""

import datetime
import sys
import time

import boto3
import pytest

from test_aws import ANSIBLE, BIN, cloud, run  # noqa: F401 the fixture is this module's too

WAL = "archive/a/17-1/0000000100000001/000000010000000100000001-abc.zst"
INFO = "backup/a/backup.info"


@pytest.fixture
def buckets(cloud):  # noqa: F811
    """A bucket of backups and one of copies, both with versions; who restores is an administrator."""
    s3 = boto3.client("s3", region_name="us-east-1")
    for name in ("backup", "copies"):
        s3.create_bucket(Bucket=name)
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    yield s3, cloud | {"AWS_ACCESS_KEY_ID": "operator", "AWS_DEFAULT_REGION": "us-east-1"}
    for name in ("backup", "copies"):
        listed = s3.list_object_versions(Bucket=name)
        for one in (*listed.get("Versions", []), *listed.get("DeleteMarkers", [])):
            s3.delete_object(Bucket=name, Key=one["Key"], VersionId=one["VersionId"])
        s3.delete_bucket(Bucket=name)


def put(s3, key, text, bucket="backup"):
    s3.put_object(Bucket=bucket, Key=key, Body=text.encode())


def get(s3, key, bucket="backup"):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()


def moment():
    """A time after all that was written, and before all that will be: versions have whole seconds."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(seconds=1)
    deadline = time.monotonic() + 30
    while datetime.datetime.now(datetime.UTC) < now + datetime.timedelta(seconds=1):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return now.isoformat()


def restore(environment, *arguments):
    return run(environment, sys.executable, ANSIBLE / "restore-versions", *arguments)


@pytest.fixture
def damaged(buckets):
    """A bucket after an attack with the keys of a host: an object overwritten, one deleted, one planted, one untouched."""
    s3, environment = buckets
    for key, text in ((INFO, "honest"), (WAL, "wal"), ("backup/a/same", "same")):
        put(s3, key, text)
        put(s3, key, text, "copies")
    at = moment()
    put(s3, INFO, "nothing here")
    s3.delete_object(Bucket="backup", Key=WAL)
    put(s3, "backup/a/planted", "evil")
    return s3, environment, at


def test_what_was_overwritten_and_deleted_comes_back_and_nothing_else_changes(damaged):
    s3, environment, at = damaged
    done = restore(environment, "--bucket", "backup", "--at", at)
    assert done.returncode == 0, done.stderr
    assert (get(s3, INFO), get(s3, WAL), get(s3, "backup/a/planted")) == ("honest", "wal", "evil")
    assert "left as it is, because it came later: backup/a/planted" in done.stdout
    assert len([one for one in s3.list_object_versions(Bucket="backup")["Versions"] if one["Key"] == "backup/a/same"]) == 1
    assert restore(environment, "--bucket", "backup", "--at", at).stdout.endswith("0 objects were put back, 1 came later\n")


def test_a_look_changes_nothing(damaged):
    s3, environment, at = damaged
    done = restore(environment, "--bucket", "backup", "--at", at, "--look")
    assert f"would put back {WAL}" in done.stdout and "2 objects would be put back" in done.stdout
    assert get(s3, INFO) == "nothing here"


def test_a_prefix_leaves_the_rest_alone(damaged):
    s3, environment, at = damaged
    assert restore(environment, "--bucket", "backup", "--at", at, "--prefix", "archive/").returncode == 0
    assert (get(s3, INFO), get(s3, WAL)) == ("nothing here", "wal")


def test_a_bucket_that_lost_its_versions_comes_back_from_the_copies(damaged):
    s3, environment, at = damaged
    listed = s3.list_object_versions(Bucket="backup")
    for one in (*listed["Versions"], *listed["DeleteMarkers"]):
        s3.delete_object(Bucket="backup", Key=one["Key"], VersionId=one["VersionId"])
    done = restore(environment, "--bucket", "backup", "--from", "copies", "--at", at)
    assert done.returncode == 0, done.stderr
    assert (get(s3, INFO), get(s3, WAL), get(s3, "backup/a/same")) == ("honest", "wal", "same")


def test_the_playbook_of_the_page_does_it_and_checks_it(damaged):
    s3, environment, at = damaged
    command = (BIN / "ansible-playbook", "--inventory", "inventories/aws", "restore-versions.yml", "-e", "versions_bucket=backup", "-e")
    done = run(environment, *command, f"versions_at={at}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (get(s3, INFO), get(s3, WAL)) == ("honest", "wal")
    again = run(environment, *command, f"versions_at={at}")
    assert again.returncode == 0 and "changed=0" in again.stdout


@pytest.mark.parametrize(
    ("at", "said"),
    [("yesterday", "is no time"), ("2026-11-22T18:00:00", "has no zone"), ("2999-01-01T00:00:00+00:00", "is in the future")],
)
def test_a_time_that_cannot_be_meant_is_refused(buckets, at, said):
    _, environment = buckets
    done = restore(environment, "--bucket", "backup", "--at", at)
    assert done.returncode != 0 and said in done.stderr
