"""GitHub's interface, as far as workflows and `gh` ask it: github.py STATE.

It listens where `gh` looks for api.github.localhost. STATE holds `settings.json` (the repository as its administrator set it up),
`jobs.json` (what the workflow files give each job), `workflows.json` (which of them may be started, and with which inputs) and
`secret` (signs tokens); what is published is written below STATE. It refuses what GitHub refuses: a token of a job without
`id-token: write`, inputs that a workflow does not name, a comment above 65,536 characters, a second release of a tag, a second file
of a name, a draft by its tag. It does not judge which token asks: the tests read that from the workflows.
"""

import base64
import hashlib
import hmac
import http.server
import json
import pathlib
import re
import sys
import threading
import time
import urllib.parse

STATE = pathlib.Path(sys.argv[1])
HOST = "http://api.github.localhost"
MOST = 65536
# gh uploads several files of a release at once.
one_at_a_time = threading.Lock()


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.message = status, message


def read(name, default=None):
    file = STATE / name
    return json.loads(file.read_text()) if file.exists() else default


def write(name, value):
    partial = STATE / f"{name}.partial"
    partial.write_text(json.dumps(value, indent=1))
    partial.replace(STATE / name)


def encoded(value):
    return base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()


def token(asked):
    """A token for a job, with the subject that its environment, event or ref gives."""
    job = read("jobs.json")[asked["workflow"]].get(asked["job"])
    if job is None or job["permissions"].get("id-token") != "write":
        raise Refused(403, f"the job {asked['job']} has no permission id-token: write")
    settings = read("settings.json")
    if job["environment"]:
        context = f"environment:{job['environment']}"
    else:
        context = "pull_request" if asked["event"] == "pull_request" else f"ref:{asked['ref']}"
    now = int(time.time())
    said = {
        "iss": "https://token.actions.githubusercontent.com", "aud": asked["audience"], "iat": now, "exp": now + 300,
        "sub": f"repo:{settings['subject']}:{context}", "repository": settings["repository"], "ref": asked["ref"],
    }  # fmt: skip
    body = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded(said)}"
    return {"value": f"{body}.{encoded(hmac.new((STATE / 'secret').read_bytes(), body.encode(), hashlib.sha256).digest())}"}


def comments(method, number, body):
    kept = read("comments.json", [])
    if method == "GET":
        return [one for one in kept if one["issue"] == number]
    if len(body["body"]) > MOST:
        raise Refused(422, f"Body is too long (maximum is {MOST} characters)")
    kept.append({"id": len(kept) + 1, "issue": number, "body": body["body"], "user": {"type": "Bot"}})
    write("comments.json", kept)
    return kept[-1]


def change_comment(identity, body):
    kept = read("comments.json", [])
    if len(body["body"]) > MOST:
        raise Refused(422, f"Body is too long (maximum is {MOST} characters)")
    kept[int(identity) - 1]["body"] = body["body"]
    write("comments.json", kept)
    return kept[int(identity) - 1]


def shown(release, repository):
    here = f"{HOST}/repos/{repository}/releases/{release['id']}"
    assets = [
        {"id": number, "name": name, "url": f"{here}/assets/{number}", "state": "uploaded", "size": 1}
        for number, name in enumerate(release["assets"])
    ]
    return release | {"url": here, "html_url": here, "upload_url": f"{here}/upload{{?name,label}}", "assets": assets, "author": {"login": "bot"}}


def releases(method, rest, query, body, repository):
    kept = read("releases.json", [])

    def one(identity):
        found = [release for release in kept if release["id"] == int(identity)]
        if not found:
            raise Refused(404, "Not Found")
        return found[0]

    if rest == "" and method == "POST":
        if any(release["tag_name"] == body["tag_name"] and not release["draft"] for release in kept):
            raise Refused(422, "Validation Failed: already_exists tag_name")
        kept.append(
            {
                "id": len(kept) + 1,
                "tag_name": body["tag_name"],
                "name": body.get("name"),
                "body": body.get("body"),
                "draft": body.get("draft", False),
                "assets": [],
            }
        )
        found = kept[-1]
    elif match := re.fullmatch(r"/tags/(.+)", rest):
        # A draft has no tag yet.
        found = next((release for release in kept if release["tag_name"] == match[1] and not release["draft"]), None)
        if not found:
            raise Refused(404, "Not Found")
    elif match := re.fullmatch(r"/(\d+)/upload", rest):
        found, name = one(match[1]), query["name"][0]
        if name in found["assets"]:
            raise Refused(422, f"Validation Failed: already_exists {name}")
        (STATE / "released").mkdir(exist_ok=True)
        (STATE / "released" / name).write_bytes(body)
        found["assets"].append(name)
    elif match := re.fullmatch(r"/(\d+)/assets/(\d+)", rest):
        found = one(match[1])
        found["assets"].pop(int(match[2]))
    elif match := re.fullmatch(r"/(\d+)", rest):
        found = one(match[1])
        if method == "PATCH":
            found.update({key: body[key] for key in ("draft", "name", "body", "tag_name") if key in body})
    elif rest == "" and method == "GET":
        return [shown(release, repository) for release in kept]
    else:
        raise Refused(404, "Not Found")
    write("releases.json", kept)
    return shown(found, repository)


def network(owner, name, settings):
    """A repository as gh asks for it by a remote; null is one that is not there."""
    if f"{owner}/{name}" != settings["repository"]:
        return None
    return {"id": "1", "name": name, "owner": {"login": owner}, "viewerPermission": "WRITE", "defaultBranchRef": {"name": "main"}, "parent": None}


def graphql(body):
    """What gh asks for a release: what a remote names, whether a tag exists, and which draft a tag has."""
    settings, values = read("settings.json"), body.get("variables") or {}
    tag = str(values.get("tagName") or values.get("tag_name") or values.get("tag") or "").removeprefix("refs/tags/")
    if asked := re.findall(r'(repo_\d+): repository\(owner: "([^"]+)", name: "([^"]+)"\)', body["query"]):
        # Which repositories the remotes name, each by a key of its own.
        return {"data": {"viewer": {"login": "bot"}, **{key: network(owner, name, settings) for key, owner, name in asked}}}
    if "repository(" not in body["query"]:
        # gh asks which features there are: none.
        return {"data": {}}
    if "refs/tags/" in body["query"] or "ref(qualifiedName" in body["query"]:
        return {"data": {"repository": {"ref": {"id": "1"} if tag in settings["tags"] else None}}}
    drafts = [one for one in read("releases.json", []) if one["tag_name"] == tag and one["draft"]]
    return {"data": {"repository": {"release": {"databaseId": drafts[0]["id"], "isDraft": True} if drafts else None}}}


def started(workflow, body):
    """A workflow that is started by hand, or by another one, with inputs that its file names."""
    wanted = workflow["inputs"]
    if wanted is None:
        raise Refused(422, "Workflow does not have 'workflow_dispatch' trigger")
    if body["ref"] != "main":
        raise Refused(422, f"No ref found for: {body['ref']}")
    given = body.get("inputs") or {}
    if unknown := sorted(given.keys() - wanted.keys()):
        raise Refused(422, f"Unexpected inputs provided: {unknown}")
    if missing := [name for name, must in wanted.items() if must and not given.get(name)]:
        raise Refused(422, f"Required input '{missing[0]}' not provided")
    write("started.json", [*read("started.json", []), {"workflow": workflow["path"], "inputs": given}])


def dispatch(method, which, body):
    """What gh asks to start a workflow: which one a file is, then its start."""
    kept = read("workflows.json")
    found = next((one for one in kept if str(one["id"]) == which or one["path"] == f".github/workflows/{which}"), None)
    if not found:
        raise Refused(404, "Not Found")
    if method == "POST":
        started(found, body)
    return {key: found[key] for key in ("id", "name", "path")} | {"state": "active"}


def repository(method, path, query, body):
    """A path below /repos/OWNER/NAME."""
    settings = read("settings.json")
    if path.startswith("/releases"):
        return releases(method, path.removeprefix("/releases"), query, body, settings["repository"])
    if match := re.fullmatch(r"/issues/(\d+)/comments", path):
        return comments(method, match[1], body)
    if match := re.fullmatch(r"/issues/comments/(\d+)", path):
        return change_comment(match[1], body)
    if match := re.fullmatch(r"/actions/workflows/([\w.-]+)(/dispatches)?", path):
        return dispatch(method if match[2] else "GET", match[1], body)
    if path == "/attestations":
        write("attestations.json", [*read("attestations.json", []), body])
        return {}
    if match := re.fullmatch(r"/compare/main\.\.\.([0-9a-f]{40})", path):
        return {"status": "identical" if match[1] == settings["main"] else "ahead"}
    if method == "GET" and path in settings["answers"]:
        return settings["answers"][path]
    raise Refused(404, "Not Found")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def content(self):
        """The body of a request; gh sends what it reads from its standard input in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def answer(self):
        content = self.content()
        path, _, query = self.path.partition("?")
        query = urllib.parse.parse_qs(query)
        try:
            body = content if path.endswith("/upload") else json.loads(content or b"{}")
            settings = read("settings.json")
            if path == "/token":
                status, found = 200, token(body)
            elif self.headers.get("Authorization", "").removeprefix("token ").removeprefix("Bearer ") != settings["token"]:
                raise Refused(401, "Bad credentials")
            elif path == "/graphql":
                status, found = 200, graphql(body)
            elif path.startswith(f"/repos/{settings['repository']}"):
                with one_at_a_time:
                    found = repository(self.command, path.removeprefix(f"/repos/{settings['repository']}"), query, body)
                status = 204 if self.command == "DELETE" or path.endswith("/dispatches") else 201 if self.command == "POST" else 200
            elif path in settings["pins"]:
                status, found = 200, {}
            else:
                raise Refused(404, "Not Found")
        except Refused as refused:
            status, found = refused.status, {"message": refused.message}
        said = b"" if status == 204 else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 80), Handler).serve_forever()
