"""What a host of the cloud finds there: its metadata service, and the parameter store of a region.

Usage: cloud.py STATE CERTIFICATE. STATE is a JSON file, read anew for each request:
    user_data, role, region, parameters {name: value}, denied [name ...], session {AccessKeyId, SecretAccessKey, Token}
Without user_data or role the metadata service has none, as on an instance that was launched without. Also for tests:
disabled (no metadata at all), stolen (a session that the host is given but the store does not know), held (the store
answers only once this is gone).
"""

import datetime
import http.server
import json
import pathlib
import secrets
import ssl
import sys
import threading
import time

import botocore.auth
import botocore.awsrequest
import botocore.credentials

STATE, CERTIFICATE = sys.argv[1:]
tokens = set()


def state():
    return json.loads(pathlib.Path(STATE).read_text())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=""):
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Metadata(Handler):
    """IMDSv2: nothing is told without a token."""

    def do_PUT(self):
        if self.path != "/latest/api/token" or not self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "").isdigit():
            return self.answer(400)
        if "disabled" in state():
            return self.answer(403)
        tokens.add(secrets.token_hex(28))
        return self.answer(200, list(tokens)[-1])

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") not in tokens:
            return self.answer(401)
        now = state()
        roles = "/latest/meta-data/iam/security-credentials/"
        known = {
            "/latest/user-data": now.get("user_data"),
            "/latest/meta-data/placement/region": now["region"],
            "/latest/meta-data/services/domain": "amazonaws.com",
            roles: now.get("role"),
            f"{roles}{now.get('role')}": now.get("stolen", now["session"]),
        }
        found = known.get(self.path)
        return self.answer(404) if found is None else self.answer(200, found)


class ParameterStore(Handler):
    """SSM's GetParameter, for requests that the instance's role has signed."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        while "held" in (now := state()):
            time.sleep(0.02)
        if self.headers["Host"] != f"ssm.{now['region']}.amazonaws.com":
            return self.answer(400, {"__type": "UnknownEndpoint", "message": self.headers["Host"]})
        problem = self.forged(body, now)
        if problem:
            return self.answer(400, {"__type": "InvalidSignatureException", "message": problem})
        if self.headers["X-Amz-Target"] != "AmazonSSM.GetParameter":
            return self.answer(400, {"__type": "UnknownOperationException"})
        wanted = json.loads(body)
        if wanted["Name"] in now.get("denied", []):
            who = f"arn:aws:sts::123456789012:assumed-role/{now['role']}/i-0"
            return self.answer(400, {"__type": "AccessDeniedException", "Message": f"User: {who} is not authorized"})
        if wanted["Name"] not in now["parameters"]:
            return self.answer(400, {"__type": "ParameterNotFound"})
        value = now["parameters"][wanted["Name"]] if wanted.get("WithDecryption") else "encrypted"
        return self.answer(200, {"Parameter": {"Name": wanted["Name"], "Type": "SecureString", "Value": value}})

    def forged(self, body, now):
        """Says what is wrong with the signature, by computing it with botocore's own signer."""
        session = now["session"]
        if self.headers.get("X-Amz-Security-Token") != session["Token"]:
            return "The security token included in the request is invalid."
        sent = dict(part.strip().split("=", 1) for part in self.headers["Authorization"].partition(" ")[2].split(","))
        if not sent["Credential"].endswith(f"/{now['region']}/ssm/aws4_request"):
            return f"Credential should be scoped to a valid region: {sent['Credential']}"
        stamp = self.headers["X-Amz-Date"]
        signed = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        if abs(datetime.datetime.now(datetime.UTC) - signed) > datetime.timedelta(minutes=15):
            return "Signature expired"
        headers = {name: self.headers[name] for name in sent["SignedHeaders"].split(";")}
        if not {"host", "x-amz-date"} <= set(headers):
            return "'Host' and 'X-Amz-Date' must be signed"
        request = botocore.awsrequest.AWSRequest("POST", f"https://{self.headers['Host']}{self.path}", headers, body)
        request.context["timestamp"] = stamp
        credentials = botocore.credentials.Credentials(session["AccessKeyId"], session["SecretAccessKey"])
        signer = botocore.auth.SigV4Auth(credentials, "ssm", now["region"])
        expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        return None if secrets.compare_digest(expected, sent["Signature"]) else "The request signature does not match"


metadata = http.server.ThreadingHTTPServer(("169.254.169.254", 80), Metadata)
store = http.server.ThreadingHTTPServer(("0.0.0.0", 443), ParameterStore)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE)
store.socket = context.wrap_socket(store.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=store.serve_forever, daemon=True).start()
metadata.serve_forever()
