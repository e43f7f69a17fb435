"""What a host of the cloud finds there: its metadata service, and a region's parameter store and EC2 interface.

Usage: cloud.py STATE CERTIFICATE. STATE is a JSON file, read anew for each request:
    user_data, role, region, parameters {name: value}, denied [name ...], session {AccessKeyId, SecretAccessKey, Token},
    instances {address: {tag: value}}, which run, and actions [name ...], what roles may ask the EC2 interface
Without user_data or role the metadata service has none, as on an instance that was launched without. Also for tests:
disabled (no metadata at all), stolen (a session that the host is given but the store does not know), held (the store
answers only once this is gone).
"""

import datetime
import http.server
import ipaddress
import json
import pathlib
import re
import secrets
import ssl
import sys
import threading
import time
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials

STATE, CERTIFICATE = sys.argv[1:]
tokens = set()
# What a client of AWS wants to know of a session besides its keys.
VALID = {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z"}


def state():
    return json.loads(pathlib.Path(STATE).read_text())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body="", **headers):
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
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
        # A client of AWS takes no token without its time to live.
        return self.answer(200, list(tokens)[-1], **{"X-aws-ec2-metadata-token-ttl-seconds": 300})

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") not in tokens:
            return self.answer(401)
        now = state()
        roles = "/latest/meta-data/iam/security-credentials/"
        known = {
            "/latest/user-data": now.get("user_data"),
            "/latest/meta-data/placement/region": now["region"],
            "/latest/meta-data/services/domain": "amazonaws.com",
            "/latest/meta-data/local-ipv4": self.client_address[0],
            "/latest/meta-data/instance-id": identity(self.client_address[0]),
            roles: now.get("role"),
            f"{roles}{now.get('role')}": now.get("stolen", {**now["session"], **VALID}),
        }
        found = known.get(self.path)
        return self.answer(404) if found is None else self.answer(200, found)


def identity(address):
    return f"i-{int(ipaddress.ip_address(address)):017x}"


def instance(region, address, tags):
    """An instance that runs, as EC2 describes it."""
    named = "".join(f"<item><key>{key}</key><value>{value}</value></item>" for key, value in tags.items())
    facts = {"instanceId": identity(address), "imageId": "ami-12345678", "instanceType": "t3.micro", "architecture": "x86_64"}
    facts |= {"privateIpAddress": address, "vpcId": "vpc-1", "subnetId": "subnet-1"}
    told = "".join(f"<{name}>{value}</{name}>" for name, value in facts.items())
    told += "<instanceState><code>16</code><name>running</name></instanceState>"
    return f"<item>{told}<placement><availabilityZone>{region}a</availabilityZone></placement><tagSet>{named}</tagSet></item>"


def described(region, instances, asked):
    """The answer to DescribeInstances: those that every filter lets through. A filter that is not known lets nothing through."""
    filters = {}
    for name, (value,) in asked.items():
        if found := re.fullmatch(r"Filter\.(\d+)\.Value\.\d+", name):
            filters.setdefault(asked[f"Filter.{found[1]}.Name"][0], set()).add(value)
    known = {
        address: {"instance-state-name": "running"} | {f"tag:{key}": value for key, value in tags.items()} for address, tags in instances.items()
    }
    there = [address for address, facts in known.items() if all(facts.get(name) in values for name, values in filters.items())]
    items = "".join(
        f"<item><reservationId>r-{number}</reservationId><ownerId>123456789012</ownerId>"
        f"<instancesSet>{instance(region, address, instances[address])}</instancesSet></item>"
        for number, address in enumerate(there)
    )
    return f'<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet>{items}</reservationSet></DescribeInstancesResponse>'


class Region(Handler):
    """SSM's GetParameter and EC2's calls, for requests that the instance's role has signed."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        while "held" in (now := state()):
            time.sleep(0.02)
        if self.headers["Host"] == f"ec2.{now['region']}.amazonaws.com":
            return self.compute(body, now)
        if self.headers["Host"] != f"ssm.{now['region']}.amazonaws.com":
            return self.answer(400, {"__type": "UnknownEndpoint", "message": self.headers["Host"]})
        problem = self.forged(body, now, "ssm")
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

    def compute(self, body, now):
        asked = urllib.parse.parse_qs(body.decode())
        action = asked["Action"][0]
        problem = self.forged(body, now, "ec2") or (f"not authorized to perform: ec2:{action}" if action not in now["actions"] else None)
        if problem:
            error = f"<Error><Code>UnauthorizedOperation</Code><Message>{problem}</Message></Error>"
            return self.answer(403, f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>")
        return self.answer(200, described(now["region"], now["instances"], asked))

    def forged(self, body, now, service):
        """Says what is wrong with the signature, by computing it with botocore's own signer."""
        session = now["session"]
        if self.headers.get("X-Amz-Security-Token") != session["Token"]:
            return "The security token included in the request is invalid."
        sent = dict(part.strip().split("=", 1) for part in self.headers["Authorization"].partition(" ")[2].split(","))
        if not sent["Credential"].endswith(f"/{now['region']}/{service}/aws4_request"):
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
        signer = botocore.auth.SigV4Auth(credentials, service, now["region"])
        expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        return None if secrets.compare_digest(expected, sent["Signature"]) else "The request signature does not match"


metadata = http.server.ThreadingHTTPServer(("169.254.169.254", 80), Metadata)
store = http.server.ThreadingHTTPServer(("0.0.0.0", 443), Region)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE)
store.socket = context.wrap_socket(store.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=store.serve_forever, daemon=True).start()
metadata.serve_forever()
