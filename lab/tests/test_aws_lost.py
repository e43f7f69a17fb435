"""What an operator can do in the cloud while the interface of a region does not answer, and with the tools that an operator has."""

import http.server
import json
import pathlib
import re
import sys
import threading
import urllib.error
import urllib.request

import pytest

from lab.hosts import permissions
from test_aws import ANSIBLE, BIN, client, cloud, run, state  # noqa: F401 the fixture is this module's too
from tools import TOP

LOST = "eu-west-1"
HOP_BY_HOP = {"connection", "content-length", "date", "server", "transfer-encoding"}


class Hole(http.server.ThreadingHTTPServer):
    """The cloud's interface, of which one region takes requests and never answers."""

    daemon_threads = True

    def __init__(self, url):
        super().__init__(("127.0.0.1", 0), Passage)
        self.url, self.asked, self.closed = url, [], threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.closed.set()
        self.shutdown()
        self.server_close()


class Passage(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        region = re.search(r"Credential=[^/]+/\d+/([^/]+)/", self.headers["Authorization"])[1]
        self.server.asked.append(region)
        if region == LOST:
            self.close_connection = True
            self.server.closed.wait()
            return
        request = urllib.request.Request(self.server.url + self.path, body, dict(self.headers), method=self.command)
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture
def half(cloud):  # noqa: F811
    """The environment of an operator before a region that does not answer, and one that does."""
    hole = Hole(cloud["AWS_ENDPOINT_URL"])
    yield cloud | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{hole.server_port}"}, hole
    hole.close()


def test_the_hosts_of_the_other_region_are_known_while_one_does_not_answer(half):
    environment, hole = half
    done = run(environment, BIN / "ansible-inventory", "--inventory", "inventories/aws", "--list")
    assert done.returncode == 0, done.stderr
    known = json.loads(done.stdout)
    assert known["database"]["hosts"] == ["b-db1", "b-db2", "b-db3"] and "region_a" not in known
    assert f"the hosts of {LOST} are unknown" in done.stderr
    assert hole.asked.count(LOST) == 3, "an attempt and two retries"


def test_a_fence_that_is_not_answered_is_no_proof(half):
    environment, hole = half
    done = run(environment, sys.executable, ANSIBLE / "fence-instance", "--region", LOST, "a-db1")
    assert done.returncode != 0 and "a-db1 was not fenced" in done.stderr
    assert hole.asked.count(LOST) == 3, "an attempt and two retries"


def test_failover_refuses_without_proof_while_the_lost_region_does_not_answer(half):
    environment, _ = half
    done = run(environment, BIN / "ansible-playbook", "--inventory", "inventories/aws", "failover-region.yml", "-e", "target_region=b")
    assert done.returncode != 0 and "region_fence_override" in done.stdout, done.stdout + done.stderr
    assert state("eu-central-1", "b-db1") == "running"


def test_no_region_that_answers_is_an_error_and_not_an_empty_inventory(cloud):  # noqa: F811
    nowhere = cloud | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    done = run(nowhere, BIN / "ansible", "all", "-i", "inventories/aws", "-m", "ansible.builtin.ping")
    assert "no region tells its hosts" in done.stderr, done.stderr


@pytest.fixture
def user(cloud, tmp_path):  # noqa: F811
    """The environment of a user whose Python has nothing but itself."""
    for name in ("python", "python3"):
        bare = tmp_path / name
        bare.write_text('#!/bin/sh\nexec /usr/bin/python3 -E -s -S "$@"\n')
        bare.chmod(0o755)
    return cloud | {"PATH": f"{tmp_path}:/usr/bin:/bin"}


def test_a_playbook_fences_by_the_python_that_runs_it(user):
    """By the role's own task, as failover-region takes it."""
    tasks = ("-m", "ansible.builtin.include_role", "-a", "name=region tasks_from=fence")
    done = run(user, BIN / "ansible", "b-db3", "-i", "inventories/aws", "--playbook-dir", ".", *tasks)
    assert done.returncode == 0, done.stdout + done.stderr
    assert state("eu-central-1", "b-db3") == "stopped"


def test_the_python_of_a_user_alone_could_not(user, tmp_path):
    """Else the test above would show nothing."""
    done = run(user, tmp_path / "python3", pathlib.Path(ANSIBLE) / "fence-instance", "--region", "eu-central-1", "b-db3")
    assert done.returncode != 0 and "No module named 'boto3'" in done.stderr


RESIZED = "b-db1"


def resize(environment, *arguments):
    return run(environment, sys.executable, ANSIBLE / "resize-instance", "--region", "eu-central-1", *arguments, RESIZED)


def test_a_host_gets_the_type_of_its_tag_and_runs_again(cloud):  # noqa: F811
    ec2 = client("ec2", "eu-central-1")
    (host,) = ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": [f"dob-api-{RESIZED}"]}])["Reservations"][0]["Instances"]
    ec2.delete_tags(Resources=[host["InstanceId"]], Tags=[{"Key": "Type"}])
    ec2.modify_instance_attribute(InstanceId=host["InstanceId"], InstanceType={"Value": "m1.small"})
    assert "has no tag Type" in resize(cloud).stderr
    ec2.create_tags(Resources=[host["InstanceId"]], Tags=[{"Key": "Type", "Value": "m7i.large"}])
    assert f"{RESIZED} changes from m1.small to m7i.large" in resize(cloud, "--look").stdout
    done = resize(cloud)
    assert done.returncode == 0 and f"{RESIZED} changed from m1.small to m7i.large" in done.stdout, done.stderr
    (after,) = ec2.describe_instances(InstanceIds=[host["InstanceId"]])["Reservations"][0]["Instances"]
    assert (after["InstanceType"], after["State"]["Name"]) == ("m7i.large", "running")
    assert f"{RESIZED} has type m7i.large" in resize(cloud).stdout
    # An earlier run may have ended between its steps.
    ec2.stop_instances(InstanceIds=[host["InstanceId"]])
    assert resize(cloud).returncode == 0 and state("eu-central-1", RESIZED) == "running"


def test_playbooks_and_secrets_use_all_that_their_roles_are_granted(cloud, tmp_path):  # noqa: F811
    """Those that stand beside them are the AWS CLI's, which opens the tunnels."""
    tunnel = {"ec2:DescribeInstanceConnectEndpoints", "ec2-instance-connect:OpenTunnel"}
    permissions.recorded["database"].clear()
    test_a_host_gets_the_type_of_its_tag_and_runs_again(cloud)
    ask = ("-i", "inventories/aws", "--playbook-dir", ".", "-m", "ansible.builtin.debug", "-a", "var=patroni_superuser_password")
    assert run(cloud, BIN / "ansible", "b-db1", *ask).returncode == 0
    certificate, key = tmp_path / "ca.crt", tmp_path / "ca.key"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    assert run(cloud, "openssl", "req", "-x509", *curve, "-subj", "/CN=test", "-keyout", key, "-out", certificate).returncode == 0
    for region in ("eu-west-1", "eu-central-1"):
        ssm = client("ssm", region)
        ssm.delete_parameters(Names=[one["Name"] for one in ssm.describe_parameters()["Parameters"]])
    written = run(cloud, sys.executable, TOP / "terraform/secrets", "--ca", certificate, "--ca-key", key)
    assert written.returncode == 0, written.stderr
    beside = set().union(*(permissions.BESIDE.get(action, set()) for action in permissions.recorded["database"]))
    assert permissions.recorded["database"] | beside | tunnel == permissions.granted("database")
    assert permissions.granted("drill") == tunnel | {"ec2:DescribeInstances", "ec2:DescribeVpcs"}
