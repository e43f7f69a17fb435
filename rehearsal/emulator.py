"""Serves the cloud's interface as a hosted runner meets it: emulator.py PORT STATE.

It is the emulator of terraform/tests, with what the workflows need besides: roles are taken by tokens that GitHub issued, by the
trust policy that Terraform rendered; what no policy grants is refused; and a region can be lost with its interface. STATE is a
folder: `secret` signs the tokens, `lost` names lost regions, and `calls` records who called what.
"""

import base64
import fnmatch
import hashlib
import hmac
import importlib.util
import json
import pathlib
import re
import runpy
import sys
import time
import types

import moto.server
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import ServiceException
from moto.iam.access_control import IAMPolicy, IAMRequestBase
from moto.iam.models import iam_backends
from moto.sts.responses import TokenResponse

TOP = pathlib.Path(__file__).resolve().parent.parent
PORT, STATE = int(sys.argv[1]), pathlib.Path(sys.argv[2])


class Denied(ServiceException):
    code = "AccessDenied"


class InvalidToken(ServiceException):
    code = "InvalidIdentityToken"


class TooLong(ServiceException):
    code = "ValidationError"


def listed(value):
    return value if isinstance(value, list) else [value]


def matches(patterns, value):
    return any(fnmatch.fnmatchcase(value.lower(), pattern.lower()) for pattern in listed(patterns))


def claims(token):
    """What a token says, if GitHub signed it and it is still valid."""
    body, _, signature = token.rpartition(".")
    expected = hmac.new((STATE / "secret").read_bytes(), body.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(base64.urlsafe_b64encode(expected).decode(), signature):
        raise InvalidToken("the token is not signed by its issuer")
    found = json.loads(base64.urlsafe_b64decode(body.split(".")[1]))
    if found["exp"] < time.time():
        raise InvalidToken("the token has expired")
    return found


def trusted(role, token):
    """Whether the role's trust policy lets the bearer of the token take it."""
    issuer = token["iss"].removeprefix("https://")
    for statement in listed(json.loads(role.assume_role_policy_document)["Statement"]):
        provider = statement.get("Principal", {}).get("Federated", "")
        known = statement["Effect"] == "Allow" and "sts:AssumeRoleWithWebIdentity" in listed(statement["Action"])
        if not known or not provider.endswith(f"oidc-provider/{issuer}"):
            continue
        conditions = statement.get("Condition", {})
        # Without a condition on the subject, every repository of GitHub could take the role: AWS refuses to make such a role.
        if set(conditions) != {"StringEquals"} or f"{issuer}:sub" not in conditions["StringEquals"]:
            raise Denied(f"{role.name} does not compare the subject with StringEquals")
        if all(token[key.rpartition(":")[2]] in listed(values) for key, values in conditions["StringEquals"].items()):
            return True
    return False


assume = TokenResponse.assume_role_with_web_identity


def assume_with_token(self):
    token = claims(self._get_param("WebIdentityToken"))
    iam = iam_backends[self.current_account]["aws"]
    known = [iam.get_open_id_connect_provider(arn) for arn in iam.list_open_id_connect_providers()]
    providers = {one.url.removeprefix("https://"): one for one in known}
    provider = providers.get(token["iss"].removeprefix("https://"))
    if not provider or token["aud"] not in provider.client_id_list:
        raise InvalidToken(f"no identity provider of this account issues tokens for {token['aud']}")
    name = self._get_param("RoleArn").rpartition("/")[2]
    role = next((one for one in iam.get_roles() if one.arn == self._get_param("RoleArn")), None)
    if role is None or not trusted(role, token):
        raise Denied(f"Not authorized to perform sts:AssumeRoleWithWebIdentity: {name} does not trust {token['sub']}")
    if self._get_int_param("DurationSeconds", 3600) > int(role.max_session_duration or 3600):
        raise TooLong("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    return assume(self)


def grants(statement, action, resource, region):
    """Whether a statement speaks of a call. moto does not know most resources: those count as the statement's own."""
    listed_actions = statement.get("Action")
    if (listed_actions is not None and not matches(listed_actions, action)) or (listed_actions is None and matches(statement["NotAction"], action)):
        return False
    known = resource.startswith("arn:aws:s3:::") and not resource.startswith("arn:aws:s3:::*")
    if "NotResource" in statement:
        return known and not matches(statement["NotResource"], resource)
    if known and not matches(statement["Resource"], resource):
        return False
    if not known and statement["Effect"] == "Deny" and listed(statement["Resource"]) != ["*"]:
        return False
    regions = [
        value
        for test in statement.get("Condition", {}).values()
        for key, values in test.items()
        if key == "aws:RequestedRegion"
        for value in listed(values)
    ]
    return not regions or region in regions


def check(self, resource):
    statements = [one for policy in self._access_key.collect_policies() for one in listed(IAMPolicy(policy)._policy_json["Statement"])]
    # Clients sign for this service by another name than policies call it by.
    action = re.sub("^monitoring:", "cloudwatch:", self._action)
    effects = {one["Effect"] for one in statements if grants(one, action, resource, self._region)}
    # Nothing can take this call away from anybody.
    effects = {"Allow"} if action == "sts:GetCallerIdentity" else effects
    who = self._access_key.arn.split("/")[1]
    with (STATE / "calls").open("a") as calls:
        calls.write(f"{who} {action} {self._region} {'denied' if effects != {'Allow'} else 'allowed'}\n")
    if effects != {"Allow"}:
        self._raise_access_denied()


signed = IAMRequestBase.check_signature


def check_signature_where_moto_can(self):
    # moto computes another one than the clients do for these services.
    if self._service not in ("ebs", "route53"):
        signed(self)


authenticate = ActionAuthenticatorMixin._authenticate_and_authorize_action


def authenticate_all_but_tokens(self, iam_request_cls, resource="*"):
    # Who takes a role by a token has no key yet: the token is the proof.
    if self._get_action() != "AssumeRoleWithWebIdentity":
        authenticate(self, iam_request_cls, resource)


def also_refresh(arguments):
    """The roll-out's own emulator replaces hosts; then it serves, with the regions that are lost refused."""
    spec = importlib.util.spec_from_file_location("roll_out_emulator", TOP / "ami/tests/emulator.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    answer = moto.server.DomainDispatcherApplication.__call__

    def unless_lost(application, environ, start_response):
        lost = (STATE / "lost").read_text().split() if (STATE / "lost").exists() else []
        scope = environ.get("HTTP_AUTHORIZATION", "")
        if any(f"/{region}/" in scope for region in lost):
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"this region is lost"]
        return answer(application, environ, start_response)

    moto.server.DomainDispatcherApplication.__call__ = unless_lost
    serve(arguments)


TokenResponse.assume_role_with_web_identity = assume_with_token
IAMRequestBase.check_action_permitted, IAMRequestBase.check_signature = check, check_signature_where_moto_can
ActionAuthenticatorMixin._authenticate_and_authorize_action = authenticate_all_but_tokens
serve, moto.server.main = moto.server.main, also_refresh
sys.argv = ["emulator.py", str(PORT)]
# That emulator knows a role by its access key; here a role is taken by a token, and judged above.
sys.modules["roles"] = types.SimpleNamespace(enforce=lambda: None)
runpy.run_path(str(TOP / "terraform/tests/emulator.py"))
