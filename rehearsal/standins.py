"""What the stand-ins of actions do, on the host of a job: standins.py upload|download|attest|credentials|terraform.

The inputs come as JSON in INPUTS. Each refuses, with one sentence, what its action documents as refused.
"""

import glob
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

HERE = pathlib.Path("/srv/rehearsal")
ARTIFACTS = HERE / "artifacts"
GITHUB = "http://api.github.localhost"
INPUTS = {name: value for name, value in json.loads(os.environ["INPUTS"]).items() if value}


class Refused(Exception):
    """Why an action fails, in one sentence."""


def is_true(name):
    if INPUTS.get(name, "false") not in ("true", "false"):
        raise Refused(f"{name} is neither true nor false: {INPUTS[name]}")
    return INPUTS.get(name) == "true"


def files(patterns):
    """The files that lines of patterns name, none twice."""
    found = []
    for pattern in filter(None, (line.strip() for line in patterns.splitlines())):
        for path in sorted(glob.glob(pattern)):
            below = [pathlib.Path(path)] if os.path.isfile(path) else sorted(one for one in pathlib.Path(path).rglob("*") if one.is_file())
            found += [one for one in below if one not in found]
    return found


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def upload():
    name, path = INPUTS.get("name", "artifact"), INPUTS["path"]
    if re.search(r'["<>:|*?\r\n/\\]', name):
        raise Refused(f"the artifact name is not valid: {name}")
    found = files(path)
    if not found:
        kind = INPUTS.get("if-no-files-found", "warn")
        if kind == "error":
            raise Refused(f"No files were found with the provided path: {path}. No artifacts will be uploaded.")
        return print(f"{kind}: no files were found with the provided path: {path}")
    target = ARTIFACTS / name
    if target.exists():
        if not is_true("overwrite"):
            raise Refused(f"(409) Conflict: an artifact with this name already exists on the workflow run: {name}")
        shutil.rmtree(target)
    # Files lose their modes, as a zip file keeps none; their paths count from the folder that holds all of them.
    top = pathlib.Path(os.path.commonpath([one.parent for one in found]))
    for one in found:
        copy = target / one.relative_to(top)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(one.read_bytes())
    (ARTIFACTS / f"{name}.sha256").write_text("".join(f"{digest(target / one.relative_to(top))} {one.relative_to(top)}\n" for one in found))
    return None


def download():
    path, name = pathlib.Path(INPUTS.get("path", ".")), INPUTS.get("name")
    names = [name] if name else sorted(one.name for one in ARTIFACTS.iterdir() if one.is_dir())
    for one in names:
        if not (ARTIFACTS / one).is_dir():
            raise Refused(f"Unable to download artifact(s): Artifact not found for name: {one}")
        for line in (ARTIFACTS / f"{one}.sha256").read_text().splitlines():
            expected, _, file = line.partition(" ")
            if digest(ARTIFACTS / one / file) != expected:
                raise Refused(f"the digest of the downloaded artifact {one} does not match")
        # Without a name each goes to a folder of its own, unless they are to be merged.
        folder = path if name or is_true("merge-multiple") else path / one
        shutil.copytree(ARTIFACTS / one, folder, dirs_exist_ok=True)


def attest():
    given = [name for name in ("subject-path", "subject-digest", "subject-checksums") if name in INPUTS]
    if len(given) != 1:
        raise Refused("One of subject-path, subject-digest, or subject-checksums must be provided")
    token("sigstore")
    if given == ["subject-digest"]:
        if "subject-name" not in INPUTS:
            raise Refused("subject-name must be provided when using subject-digest")
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", INPUTS["subject-digest"]):
            raise Refused('subject-digest must be in the format "sha256:<hex-digest>"')
        subjects = {INPUTS["subject-name"]: INPUTS["subject-digest"].removeprefix("sha256:")}
    elif given == ["subject-path"]:
        subjects = {one.name: digest(one) for one in files(INPUTS["subject-path"])}
    else:
        lines = pathlib.Path(INPUTS["subject-checksums"]).read_text().splitlines()
        subjects = {line.split()[1].lstrip("*"): line.split()[0] for line in lines}
    if not subjects:
        raise Refused(f"Could not find subject at path {INPUTS[given[0]]}")
    if len(subjects) > 1024:
        raise Refused("Too many subjects specified. The maximum number of subjects is 1024.")
    ask(f"/repos/{os.environ['GITHUB_REPOSITORY']}/attestations", {"job": os.environ["GITHUB_JOB"], "subjects": subjects})


def credentials():
    region, role = INPUTS["aws-region"], INPUTS.get("role-to-assume")
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d+", region):
        raise Refused(f"Region is not valid: {region}")
    if not re.fullmatch(r"arn:aws:iam::\d{12}:role/[\w+=,.@/-]+", role or ""):
        raise Refused(f"Could not assume role with OIDC: {role} is not a role")
    lost = HERE / "state/lost"
    if lost.exists() and region in lost.read_text().split():
        raise Refused(f"Could not assume role with OIDC: sts.{region}.amazonaws.com does not answer")
    command = ["aws", "sts", "assume-role-with-web-identity", "--region", region, "--role-arn", role, "--role-session-name", "GitHubActions"]
    command += ["--duration-seconds", INPUTS.get("role-duration-seconds", "3600"), "--web-identity-token", token("sts.amazonaws.com")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(f"Could not assume role with OIDC: {done.stderr.strip().splitlines()[-1]}")
    session = json.loads(done.stdout)["Credentials"]
    keys = {"AWS_ACCESS_KEY_ID": "AccessKeyId", "AWS_SECRET_ACCESS_KEY": "SecretAccessKey", "AWS_SESSION_TOKEN": "SessionToken"}
    with open(os.environ["GITHUB_ENV"], "a") as environment:
        for name, key in keys.items():
            print(f"::add-mask::{session[key]}")
            environment.write(f"{name}={session[key]}\n")
        environment.write(f"AWS_REGION={region}\nAWS_DEFAULT_REGION={region}\n")


def terraform():
    version = INPUTS.get("terraform_version", "latest")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise Refused(f"terraform_version is no exact version: {version}")
    print(f"standing in for Terraform {version} with the one of this machine")
    folder = pathlib.Path(os.environ["RUNNER_TEMP"]) / "terraform"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "terraform", folder)
    with open(os.environ["GITHUB_PATH"], "a") as path:
        path.write(f"{folder}\n")


def token(audience):
    """A token for this job, as GitHub issues it to jobs that may have one."""
    asked = {"workflow": os.environ["GITHUB_WORKFLOW"], "job": os.environ["GITHUB_JOB"], "event": os.environ["GITHUB_EVENT_NAME"]}
    return ask("/token", asked | {"ref": os.environ["GITHUB_REF"], "audience": audience})["value"]


def ask(path, body):
    headers = {"Authorization": f"token {os.environ.get('GITHUB_TOKEN', '')}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(GITHUB + path, json.dumps(body).encode(), headers)) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise Refused(json.loads(error.read())["message"]) from None


try:
    {"upload": upload, "download": download, "attest": attest, "credentials": credentials, "terraform": terraform}[sys.argv[1]]()
except Refused as refused:
    sys.exit(f"::error::{refused}")
