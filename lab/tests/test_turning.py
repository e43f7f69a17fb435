"""A playbook waits for members that still turn round, and for none that is away. Patroni is played by a server that answers so."""

import http.server
import json
import pathlib
import subprocess
import sys
import threading

import pytest

from lab.hosts import nspawn
from tools import TOP

ANSIBLE = TOP / "ansible"
PLAY = """
- hosts: all
  gather_facts: false
  vars:
    region: a
    region_databases: [h1, h2, h3]
    patroni_roles: [leader, standby_leader]
    patroni_api: http://127.0.0.1:{port}
    certificates_folder: {folder}
    patroni_candidate: nobody
  tasks:
    - ansible.builtin.include_role: {{name: {role}, tasks_from: {tasks}}}
"""
LEADS = {"name": "h1", "role": "leader", "state": "running", "timeline": 1}
FOLLOWS = {"name": "h2", "role": "quorum_standby", "state": "streaming", "timeline": 1}
TURNS = {"name": "h3", "role": "replica", "state": "starting"}
STREAMS = FOLLOWS | {"name": "h3"}
# The answers that come before the last one, which stays.
TURNS_ROUND = [[LEADS, FOLLOWS, TURNS]] * 5 + [[LEADS, FOLLOWS, STREAMS]]
IS_AWAY = [[LEADS, FOLLOWS]]


@pytest.fixture
def patroni():
    """Answers /cluster with each list of members in turn, and with the last one from then on."""
    made = []

    def serve(answers):
        left = list(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                members = left.pop(0) if len(left) > 1 else left[0]
                body = json.dumps({"members": members}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        made.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=made[0].serve_forever, daemon=True).start()
        return made[0].server_address[1]

    yield serve
    for server in made:
        server.shutdown()


@pytest.mark.parametrize(
    ("role", "tasks", "answers", "waits", "end"),
    [
        ("patroni", "switchover", TURNS_ROUND, True, "nobody cannot take over: choose one of h2, h3"),
        ("patroni", "switchover", IS_AWAY, False, "region a is not whole: h1 leads and h2 can take over"),
        ("region", "whole", TURNS_ROUND, True, "failed=0"),
        ("region", "whole", IS_AWAY, False, "region a is not whole: fix it first"),
    ],
)
def test_members_that_turn_round_are_waited_for_and_no_others(tmp_path, patroni, role, tasks, answers, waits, end):
    authority = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=test", "-keyout", tmp_path / "ca.key"]
    nspawn.run("openssl", "req", "-config", "/dev/null", *authority, "-out", tmp_path / "ca.crt")
    (tmp_path / "play.yml").write_text(PLAY.format(port=patroni(answers), folder=tmp_path, role=role, tasks=tasks))
    program = pathlib.Path(sys.prefix) / "bin/ansible-playbook"
    settings = nspawn.ENVIRONMENT | {"ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "HOME": str(tmp_path)}
    command = [program, "--inventory", "h1,", "--connection", "local", tmp_path / "play.yml"]
    said = subprocess.run(command, cwd=ANSIBLE, env=settings, capture_output=True, text=True, timeout=300, check=False).stdout
    assert ("FAILED - RETRYING" in said) == waits, said
    assert end in " ".join(said.split()), said
