"""What start-up makes of a cloud in which something is wrong, on a container that boots the image's own files."""

import time

import pytest

from conftest import DATABASE, PASSWORD, REGION, STORE, SUBNET
from lab.hosts import nspawn

SERVICE, SETTINGS = "dob-api.service", "dob-api-settings.service"
URL = f"DATABASE_URL=postgres://dob_api@{DATABASE}/dob_api\n"
SESSION = {"AccessKeyId": "ASIATEST", "SecretAccessKey": "another", "Token": "session//token+of=role"}
FIX, WAIT = "failed", "activating"

CASES = {
    "metadata disabled": ({"disabled": True}, WAIT, "the metadata service gives no token (status 403): enable"),
    "no user-data": ({"user_data": None}, WAIT, "gives no user-data (status 404): give the instance user-data"),
    "not a setting": ({"user_data": f"{URL}\n#!/bin/sh\nhello=world"}, FIX, "line 4 of the user-data is not NAME=value"),
    "a quoted value": ({"user_data": 'DATABASE_URL="postgres://a@b/c"'}, FIX, "line 1 of the user-data is not NAME=value"),
    "a carriage return": ({"user_data": f"{URL.strip()}\r\n"}, FIX, "line 1 of the user-data is not NAME=value"),
    "an unknown name": ({"user_data": f"{URL}DOB_API_LISTN=1"}, FIX, "line 2 of the user-data sets DOB_API_LISTN, which dob-api does not know"),
    "what is fixed": (
        {"user_data": f"{URL}DOB_API_DATA_DIR=/srv"},
        FIX,
        "line 2 of the user-data sets DOB_API_DATA_DIR, which this image has fixed",
    ),
    "a password in the URL": ({"user_data": "DATABASE_URL=postgres://a:hidden@b/c"}, FIX, "line 1 of the user-data holds a password"),
    "a password as a parameter": ({"user_data": "DATABASE_URL=postgres://a@b/c?password=hidden"}, FIX, "line 1 of the user-data holds a password"),
    "no monitoring host": (
        {"user_data": f"{URL}DOB_API_MONITOR=a-monitor"},
        FIX,
        "line 2 of the user-data sets DOB_API_MONITOR, which is not NAME/ADDRESS as in a-monitor/10.0.1.31",
    ),
    "no database": ({"user_data": "DOB_API_THREADS=2"}, FIX, "sets no DATABASE_URL: this image keeps no data of its own"),
    "no role": ({"role": None}, WAIT, "(status 404): attach an instance profile"),
    "a role without credentials": ({"stolen": {"Code": "AssumeRoleUnauthorizedAccess"}}, WAIT, "no credentials for the role dob-api"),
    "a wrong role": ({"stolen": SESSION}, WAIT, "refused to the role dob-api: InvalidSignatureException"),
    "denied": (
        {"denied": ["/dob-api/database-password"]},
        WAIT,
        "/dob-api/database-password in eu-west-1 is refused to the role dob-api: AccessDenied",
    ),
    "a parameter missing": (
        {"parameters": {"/dob-api/database-password": "x"}},
        WAIT,
        "/dob-api/database-ca in eu-west-1 is refused to the role dob-api: ParameterNotFound",
    ),
    "an empty parameter": ({"parameters": {"/dob-api/database-password": ""}}, WAIT, "/dob-api/database-password in eu-west-1 is empty"),
    "other parameters": ({"user_data": f"{URL}DOB_API_PARAMETERS=/other"}, WAIT, "the parameter /other/database-password in eu-west-1 is refused"),
    "another region": ({"region": "eu-north-9"}, WAIT, "the parameter store of eu-north-9 does not answer"),
}


@pytest.fixture(scope="module")
def instance(network, tree, cloud, authority, database):
    cloud.set()
    host = nspawn.Host(network, "instance", f"{SUBNET}.10", tree)
    ca = host.folder / "upper/etc/ssl/certs/ca-certificates.crt"
    ca.parent.mkdir(parents=True)
    ca.write_text((tree / "etc/ssl/certs/ca-certificates.crt").read_text() + authority.ca.read_text())
    # Nobody reads the console of a container, and a journal that waits for a reader stops everything.
    quiet = host.folder / "upper/etc/systemd/journald.conf.d/test.conf"
    quiet.parent.mkdir(parents=True)
    quiet.write_text("[Journal]\nForwardToConsole=no\n")
    return host.boot()


def state_of(host, unit):
    return host.run("systemctl", "show", "--value", "--property=ActiveState", unit).stdout.strip()


def log_of(host, since):
    return host.run("journalctl", "--no-pager", "--output=cat", f"--since=@{since}").stdout


def stop(host):
    """Ends what an earlier test started, and returns the time from when the log is the next one's."""
    host.run("systemctl", "stop", SERVICE, "dob-api.socket", SETTINGS)
    host.run("systemctl", "reset-failed")
    return time.time()


def curl(host, *options):
    return host.run("curl", "-sS", "-m", "60", "-w", "%{http_code}", *options, "http://127.0.0.1:8080/hello/ada", check=False).stdout


@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_is_said_in_one_line_and_nothing_starts(instance, cloud, case):
    changes, expected, line = CASES[case]
    since = stop(instance)
    cloud.set(**changes)
    instance.run("systemctl", "start", "--no-block", SERVICE)
    nspawn.wait_until(lambda: "dob-api is not started: " in log_of(instance, since), "the line", 60)
    said = [text for text in log_of(instance, since).splitlines() if "dob-api is not started: " in text]
    assert line in said[0] and "hidden" not in log_of(instance, since), said
    nspawn.wait_until(lambda: state_of(instance, SETTINGS) == expected, f"the settings are {expected}")
    assert state_of(instance, SERVICE) == state_of(instance, "dob-api.socket") == "inactive"
    assert curl(instance) == "000"


def test_what_was_missing_and_comes_starts_the_service_without_a_hand(instance, cloud):
    since = stop(instance)
    cloud.set(role=None)
    instance.run("systemctl", "start", "--no-block", SERVICE)
    nspawn.wait_until(lambda: log_of(instance, since).count("dob-api is not started: ") >= 2, "a second attempt", 60)
    cloud.set()
    nspawn.wait_until(lambda: state_of(instance, SERVICE) == "active", "the service starts", 90)
    assert curl(instance, "-X", "PUT", "-d", '{"dateOfBirth":"1815-12-10"}') == "204", log_of(instance, since)
    instance.run("systemctl", "restart", SERVICE)
    assert curl(instance).endswith("200")


def test_a_wrong_value_ends_the_start_in_the_service_own_words(instance, cloud):
    since = stop(instance)
    cloud.set(user_data=f"{URL}DOB_API_THREADS=many\n")
    instance.run("systemctl", "start", "--no-block", SERVICE)
    nspawn.wait_until(lambda: state_of(instance, SERVICE) == "failed", "the service gives up", 60)
    assert "DOB_API_THREADS: " in log_of(instance, since)


def test_no_secret_is_seen_in_the_process_list(instance, cloud):
    stop(instance)
    cloud.set(held=True)
    instance.run("systemctl", "start", "--no-block", SERVICE)

    def asking():
        shown = instance.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '", check=False).stdout
        return f"https://{STORE}" in shown and shown

    shown = nspawn.wait_until(asking, "the host asks the store", 60)
    cloud.set()
    assert f"aws:amz:{REGION}:ssm" in shown
    assert not any(secret in shown for secret in (PASSWORD, "never+in", "session//token"))
