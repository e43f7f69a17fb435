"""One run of a workflow file on the host, by act, and how each of its jobs ended."""

import dataclasses
import json
import re
import shlex
import time

from rehearsal import workflows
from rehearsal.place import CLOUD, TOP

RUN_S = 900
# What the host's own network leads to, in place of the internet.
ENVIRONMENT = {
    "HOME": "/home/runner", "USER": "runner", "XDG_RUNTIME_DIR": "/home/runner/run", "LANG": "C.UTF-8",
    "PATH": "/srv/rehearsal/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "AWS_ENDPOINT_URL": CLOUD, "AWS_EC2_METADATA_DISABLED": "true", "GH_HOST": "github.localhost", "PIP_NO_INDEX": "1",
    "TF_CLI_CONFIG_FILE": "/srv/rehearsal/terraform.rc", "CHECKPOINT_DISABLE": "1",
    "TF_CLI_ARGS_init": "-backend-config=use_path_style=true", "ROLL_OUT_PACE": "0.1", "GOGC": "400",
}  # fmt: skip


@dataclasses.dataclass
class Ended:
    """The result of each job by its id, and of a matrix of jobs the worst.

    `said` is what the scripts of all steps printed, and `failed` the last line of each that failed. `log` is what act printed: it may
    lack the last line of a step. `expected` are the jobs that the event is for.
    """

    jobs: dict
    log: str
    said: str
    failed: list
    expected: set

    @property
    def green(self):
        """Whether every job that is for this event ran and succeeded."""
        return self.jobs == dict.fromkeys(self.expected, "success")


def run(place, workflow, event, ref="refs/heads/main", inputs=None, payload=None, variables=None, secrets=None, again=False):
    """Runs a workflow for an event. `variables` and `secrets` change what is set, None unsets; `again` keeps the artifacts of the run."""
    told = {"ref": ref, "repository": {"default_branch": "main"}, "inputs": inputs or {}, **(payload or {})}
    place.host.file("/home/runner/event.json").write_text(json.dumps(told))
    # act keeps the folder of a job that failed, which would pass for a job that still runs: see host/fresh.
    place.host.shell("rm -rf /home/runner/.cache/act")
    if not again:
        place.host.shell("rm -rf /srv/rehearsal/artifacts && mkdir /srv/rehearsal/artifacts && chown runner: /srv/rehearsal/artifacts")
    kept = {name: value for name, value in (place.secrets | (secrets or {})).items() if value is not None}
    values = {name: value for name, value in (place.variables | (variables or {})).items() if value is not None}
    command = ["/srv/rehearsal/act", event, "-W", f".github/workflows/{workflow}.yml", "--eventpath", "/home/runner/event.json", "--json"]
    command += ["--no-skip-checkout", "--concurrent-jobs", "1", "--action-offline-mode", "--no-cache-server", "--actor", "dob-api"]
    for runner in ("ubuntu-24.04", "ubuntu-24.04-arm"):
        command += ["-P", f"{runner}=-self-hosted"]
    for action, pin in workflows.PINS.items():
        command += ["--local-repository", f"{action}@{pin['commit']}=/srv/rehearsal/actions/{action}"]
    for name, value in values.items():
        command += ["--var", f"{name}={value}"]
    for name, value in (inputs or {}).items():
        command += ["--input", f"{name}={value}"]
    for name in kept:
        command += ["--secret", name]
    # Secrets go by the environment, not by the command line.
    script = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in {**ENVIRONMENT, **kept}.items())
    place.host.write("/home/runner/environment", script)
    place.host.shell("chown runner: /home/runner/environment")
    started = f"set -a && . /home/runner/environment && cd /srv/origin && exec {shlex.join(command)}"
    for name in ("said", "failed"):
        (place.state / name).write_text("")
    # As a service of the host: what a job starts ends with it, and gets the processor as the host does.
    unit = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--uid=runner", "--gid=runner", f"--property=RuntimeMaxSec={RUN_S}")
    jobs, log = read(place.host.follow(*unit, "bash", "-c", started), place.tell)
    said, failed = ((place.state / name).read_text() for name in ("said", "failed"))
    return Ended(jobs, log, said, failed.splitlines(), expected(workflow, event))


def expected(workflow, event):
    """The jobs that an event is for: those of no other event, nor after a job of another one."""
    jobs = workflows.workflow(TOP / f".github/workflows/{workflow}.yml")["jobs"]

    def meant(name):
        only, needs = re.search(r"event_name == '(\w+)'", str(jobs[name].get("if", ""))), jobs[name].get("needs", [])
        return (not only or only[1] == event) and all(map(meant, [needs] if isinstance(needs, str) else needs))

    return set(filter(meant, jobs))


def read(lines, tell):
    """What act prints, line by line: the result of each job, and the log. Tells each job when it ends."""
    jobs, log, begun = {}, [], {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            log.append(line.rstrip())
            continue
        job, name = entry.get("jobID", ""), entry.get("job", "")
        begun.setdefault(name, time.monotonic())
        if result := entry.get("jobResult"):
            jobs[job] = result if jobs.get(job, "success") == "success" else jobs[job]
            tell(name, result, time.monotonic() - begun[name])
        log.append(f"{job}: {entry.get('msg', '').rstrip()}")
    return jobs, "\n".join(log)
