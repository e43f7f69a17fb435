"""Serves the cloud's interface on a port of this machine: emulator.py PORT. It repairs what falls short of what the configuration needs.

- The key of one region and its replica in another share a dictionary and an alias in the emulator.
- It holds a bucket's policy against a request, but not the policy's conditions: "deny without TLS" would deny all.
- It forgets in which region the service of an endpoint is, for whom its names are, and of which network a zone is.
- It mixes up requests that come at the same time, and takes one that is sent again for a second one.
- It knows no EC2 Instance Connect Endpoint, and does not switch detailed monitoring of an instance.
- It knows no quota of processors; here an account has as few as a new one may have, until it asks for more.
- It keeps the lock of a bucket as it is once the bucket holds something, which the cloud does not, and cannot delete the mark
  of a deletion.
- It knows no role of a workflow by its access key, and asks nobody for permissions: see roles.py.
- It counts the template's own tags among those of what is launched.

It prints which region and service each root asks for, to be read by tests.
"""

import importlib.util
import json
import pathlib
import re
import sys
import threading

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.ec2.models.amis import Ami
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.responses import EC2Response
from moto.ec2.utils import parse_user_data
from moto.iam.access_control import PermissionResult
from moto.kms.models import kms_backends
from moto.kms.responses import KmsResponse
from moto.route53.responses import Route53
from moto.s3.models import FakeBucket, FakeDeleteMarker, S3Backend
from moto.server import DomainDispatcherApplication, main
from moto.servicequotas.responses import ServiceQuotasResponse

import roles


def replicate_key(self):
    region = self._get_param("ReplicaRegion")
    key = self.kms_backend.replicate_key(self._get_param("KeyId"), region)
    key.description = self._get_param("Description") or ""
    key.policy = self._get_param("Policy") or key.policy
    key.multi_region_configuration = {**key.multi_region_configuration, "MultiRegionKeyType": "REPLICA"}
    key.aliases = {}
    kms_backends[self.current_account][region].tagger.tag_resource(key.id, self._get_param("Tags") or [])
    return json.dumps({"ReplicaKeyMetadata": key.to_dict()["KeyMetadata"], "ReplicaPolicy": key.policy})


def monitor_instances(self):
    names = self._get_param("InstanceIds", [])
    for name in names:
        self.ec2_backend.get_instance(name).monitoring_state = "enabled"
    return ActionResult({"InstanceMonitorings": [{"InstanceId": name, "Monitoring": {"State": "enabled"}} for name in names]})


def put_lock(self, bucket_name, lock_enabled, mode=None, days=None, years=None):
    bucket = self.get_bucket(bucket_name)
    bucket.object_lock_enabled = bucket.object_lock_enabled or lock_enabled
    bucket.default_lock_mode, bucket.default_lock_days, bucket.default_lock_years = mode, days, years


create_version = LaunchTemplate.create_version
# What publishing and rolling out ask for, as the tests of those scripts have it: snapshots, images, sources of versions, refreshes.
beside = importlib.util.spec_from_file_location("image_cloud", pathlib.Path(__file__).resolve().parents[2] / "ami/tests/emulator.py")
image_cloud = importlib.util.module_from_spec(beside)
beside.loader.exec_module(image_cloud)
# Debian's images have no disk of ours.
disks = Ami.block_device_mappings.fget
Ami.block_device_mappings = property(lambda image: disks(image) if hasattr(image, "disk") else [])


def create_whole_version(self, data, description):
    """A version has what its source has, if it has one, and what is given beside."""
    whole = {**getattr(self, "source", {}), **data}
    if not isinstance(whole.get("UserData"), (Base64EncodedString, type(None))):
        whole["UserData"] = parse_user_data(whole["UserData"])
    whole["TagSpecifications"] = [one for one in whole.get("TagSpecifications", []) if one["ResourceType"] != "launch-template"]
    return create_version(self, whole, description)


create_endpoint = EC2Response.create_vpc_endpoint


def create_endpoint_elsewhere(request):
    made = create_endpoint(request)
    made.result["VpcEndpoint"].service_region = request._get_param("ServiceRegion")
    made.result["VpcEndpoint"].dns_options = request._get_param("DnsOptions")
    return made


create_zone = Route53.create_hosted_zone


def create_zone_of_network(request):
    made, network = create_zone(request), request._get_param("VPC")
    if network:
        made.result["HostedZone"].private_zone = True
        made.result["HostedZone"].add_vpc(network["VPCId"], network["VPCRegion"])
    return made


class Quotas:
    """Processors of instances, by region: as few as a new account may have, until more are asked for."""

    NEW = 5
    CODE = "L-1216C47A"

    def __init__(self):
        self.raised = {}

    def get(self, response):
        asked = json.loads(response.body)
        if (asked["ServiceCode"], asked["QuotaCode"]) != ("ec2", self.CODE):
            return get_service_quota(response)
        return json.dumps({"Quota": {**asked, "Value": self.raised.get(response.region, float(self.NEW))}})

    def request(self, response):
        asked = json.loads(response.body)
        self.raised[response.region] = asked["DesiredValue"]
        return json.dumps({"RequestedQuota": {**asked, "Status": "APPROVED"}})


class ConnectEndpoints:
    """The endpoints of all regions, by their ids."""

    def __init__(self):
        self.kept = {}

    def create(self, request):
        endpoint = {
            "InstanceConnectEndpointId": f"eice-{len(self.kept):017x}",
            "SubnetId": request._get_param("SubnetId"),
            "SecurityGroupIds": request._get_param("SecurityGroupIds", []),
            "PreserveClientIp": request._get_bool_param("PreserveClientIp"),
            "Tags": [tag for given in request._get_param("TagSpecifications", []) for tag in given.get("Tags", given.get("Tag", []))],
            "State": "create-complete",
        }
        self.kept[endpoint["InstanceConnectEndpointId"]] = endpoint
        return ActionResult({"InstanceConnectEndpoint": endpoint})

    def describe(self, request):
        wanted = request._get_param("InstanceConnectEndpointIds", []) or list(self.kept)
        return ActionResult({"InstanceConnectEndpoints": [self.kept[name] for name in wanted if name in self.kept]})

    def delete(self, request):
        endpoint = self.kept.pop(request._get_param("InstanceConnectEndpointId"))
        return ActionResult({"InstanceConnectEndpoint": {**endpoint, "State": "delete-complete"}})


def log(environ):
    root = re.search(r"root/(\w+)", environ.get("HTTP_USER_AGENT", ""))
    scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    if root and scope:
        sys.stderr.write(f"asked by {root[1]}: {scope[1]} {scope[2]}\n")  # one write, which no other line gets into


answer, one, answered = DomainDispatcherApplication.__call__, threading.Lock(), {}


def answer_once(application, environ, start_response):
    """Answers one request at a time, and one that is repeated, because its answer was lost, as it did before."""
    call = environ.get("HTTP_AMZ_SDK_INVOCATION_ID")
    with one:
        log(environ)
        if call is None or call not in answered:
            started = []
            body = b"".join(answer(application, environ, lambda *start: started.append(start)))
            if not started[0][0].startswith("2") or call is None:
                start_response(*started[0])
                return [body]
            answered[call] = started[0], body
        start, body = answered[call]
    start_response(*start)
    return [body]


DomainDispatcherApplication.__call__ = answer_once
endpoints, quotas, get_service_quota = ConnectEndpoints(), Quotas(), ServiceQuotasResponse.get_service_quota
ServiceQuotasResponse.get_service_quota = lambda response: quotas.get(response)
ServiceQuotasResponse.request_service_quota_increase = lambda response: quotas.request(response)
EC2Response.create_instance_connect_endpoint = lambda request: endpoints.create(request)
EC2Response.describe_instance_connect_endpoints = lambda request: endpoints.describe(request)
EC2Response.delete_instance_connect_endpoint = lambda request: endpoints.delete(request)
EC2Response.create_vpc_endpoint = create_endpoint_elsewhere
EC2Response.monitor_instances = monitor_instances
LaunchTemplate.create_version = create_whole_version
S3Backend.put_object_lock_configuration = put_lock
FakeDeleteMarker.dispose = lambda marker, garbage=False: None
KmsResponse.replicate_key = replicate_key
Route53.create_hosted_zone = create_zone_of_network
FakeBucket.get_permission = lambda *_: PermissionResult.NEUTRAL
roles.enforce()
main(["--host", "127.0.0.1", "--port", sys.argv[1]])
