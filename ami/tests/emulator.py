"""AWS as far as the scripts need it: moto, and what it lacks.

moto takes the blocks of a snapshot on trust, forgets what an image is registered with, and knows no instance refresh.
Here checksums are verified as the EBS direct API documents it, images keep their properties, and an instance refresh
replaces one host each time that somebody looks at it, with the rules and states that EC2 Auto Scaling documents. No
host boots here, and no alarm rings by itself: a version with "broken" in its name stands for one that never gets healthy.
"""

import base64
import datetime
import hashlib
import threading
import uuid

import moto.server
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import autoscaling_backends
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.ebs.models import EBSBackend
from moto.ebs.responses import EBSResponse
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.responses import EC2Response
from moto.ec2.utils import parse_user_data

puts = []  # the number of each block that arrived
calls = []  # what an instance refresh was started with
counting = threading.Lock()
refuse_after = None  # how many blocks arrive before the connection is lost, as it were


def encoded(digest):
    return base64.b64encode(digest).decode()


def refuse(message, code="ValidationException"):
    error = JsonRESTError(code, message)
    error.code = 400
    raise error


start_snapshot, put_block, complete = EBSBackend.start_snapshot, EBSBackend.put_snapshot_block, EBSResponse.complete_snapshot


def start(self, *args, **kwargs):
    started = start_snapshot(self, *args, **kwargs)
    self.ec2_backend.snapshots[started.snapshot_id].status = "pending"
    return started


def put(self, snapshot_id, block_index, block_data, checksum, checksum_algorithm, data_length):
    if self.snapshots[snapshot_id].status != "pending":
        refuse(f"{snapshot_id} is not pending")
    if len(block_data) != 512 * 1024 or checksum != encoded(hashlib.sha256(block_data).digest()):
        refuse(f"the checksum of block {block_index} does not match")
    # Several blocks arrive at once.
    with counting:
        if refuse_after is not None and len(puts) >= refuse_after:
            refuse("no more blocks are taken", "AccessDeniedException")
        puts.append(int(block_index))
    return put_block(self, snapshot_id, block_index, block_data, checksum, checksum_algorithm, data_length)


def complete_snapshot(self):
    snapshot = self.ebs_backend.snapshots[self._get_param("SnapshotId")]
    count, checksum = (self.headers.get(f"x-amz-{name}") for name in ("ChangedBlocksCount", "Checksum"))
    stored = sorted((int(number), block) for number, block in snapshot.blocks.items())
    linear = hashlib.sha256(b"".join(base64.b64decode(block.checksum) for _, block in stored)).digest()
    if (int(count), checksum) != (len(stored), encoded(linear)):
        refuse("the number of blocks or their checksum does not match")
    made = self.ebs_backend.ec2_backend.snapshots[snapshot.snapshot_id]
    answer = complete(self)
    made.status, unfinished[made.id] = "pending", patience
    return answer


EBSBackend.start_snapshot, EBSBackend.put_snapshot_block, EBSResponse.complete_snapshot = start, put, complete_snapshot

patience = 0  # how often somebody looks at what the cloud makes before it is done
unfinished = {}  # what is still made, by its id: how many looks it takes
describe_snapshots, describe_images = EC2Response.describe_snapshots, EC2Response.describe_images


def finish(found, attribute, done):
    """What is looked at comes nearer to its end."""
    for one in found:
        if one.id in unfinished:
            unfinished[one.id] -= 1
            setattr(one, attribute, done if unfinished[one.id] < 0 else "pending")
            if unfinished[one.id] < 0:
                del unfinished[one.id]


def look_at_snapshots(self):
    answer = describe_snapshots(self)
    finish(answer.result["Snapshots"], "status", "completed")
    return answer


def look_at_images(self):
    answer = describe_images(self)
    finish(answer.result["Images"], "state", "available")
    return answer


EC2Response.describe_snapshots, EC2Response.describe_images = look_at_snapshots, look_at_images

create_version, create_launch_template_version = LaunchTemplate.create_version, EC2Response.create_launch_template_version


def version_of_source(self):
    """A version starts from its source and has what is given beside; without a source, that alone. moto knows no source."""
    identity, name = self._get_param("LaunchTemplateId"), self._get_param("LaunchTemplateName")
    template = self.ec2_backend.get_launch_template(identity) if identity else self.ec2_backend.get_launch_template_by_name(name)
    source = self._get_param("SourceVersion")
    template.source = template.get_version(source).data if source else {}
    return create_launch_template_version(self)


EC2Response.create_launch_template_version = version_of_source


def version_with_user_data(self, data, description):
    """moto asserts that user-data has a type of its own, and gives it only to the first version."""
    whole = {**getattr(self, "source", {}), **data}
    if isinstance(whole.get("UserData"), str):
        whole["UserData"] = parse_user_data(whole["UserData"])
    return create_version(self, whole, description)


LaunchTemplate.create_version = version_with_user_data

register, copy = EC2Response.register_image, EC2Response.copy_image
NAMES = {
    "Architecture": "architecture",
    "BootMode": "boot_mode",
    "ImdsSupport": "imds_support",
    "EnaSupport": "ena_support",
    "VirtualizationType": "virtualization_type",
    "RootDeviceName": "root_device_name",
}


def tag(self, resource, kind):
    for specification in self._get_param("TagSpecifications", None) or self._get_param("TagSpecification", []):
        if specification["ResourceType"] == kind:
            resource.add_tags({one["Key"]: one["Value"] for one in specification.get("Tags", specification.get("Tag", []))})


def register_image(self):
    result = register(self)
    image = self.ec2_backend.amis[result.result["ImageId"]]
    for name, attribute in NAMES.items():
        setattr(image, attribute, self._get_param(name))
    image.ebs_snapshot = self.ec2_backend.snapshots[self._get_param("BlockDeviceMappings")[0]["Ebs"]["SnapshotId"]]
    image.disk = self._get_param("BlockDeviceMappings")[0]["Ebs"]
    tag(self, image, "image")
    return result


def copy_image(self):
    result = copy(self)
    image = self.ec2_backend.amis[result.result["ImageId"]]
    source = ec2_backends[self.current_account][self._get_param("SourceRegion")].amis[self._get_param("SourceImageId")]
    for attribute in NAMES.values():
        setattr(image, attribute, getattr(source, attribute, None))
    image.disk = {**source.disk, "SnapshotId": image.ebs_snapshot.id}
    if not image.get_tags():
        tag(self, image, "image")
    image.state, unfinished[image.id] = "pending", patience
    return result


EC2Response.register_image, EC2Response.copy_image = register_image, copy_image
Ami.block_device_mappings = property(lambda self: [{"DeviceName": self.root_device_name, "Ebs": self.disk}])
# All images are of one second, as quick runs make them: what sorts by the date alone does not get by.
Ami.creation_date = property(lambda self: datetime.datetime(2026, 1, 1), lambda self, date: None)

ACTIVE = ("Pending", "InProgress", "Cancelling", "RollbackInProgress")
refreshes = {}  # by region and group, newest first
launched = {}  # the version of the template that a host was launched from


class Refresh:
    """Replaces the hosts of a group, one a step."""

    def __init__(self, backend, group, desired, preferences):
        self.id, self.backend, self.group = str(uuid.uuid4()), backend, group
        self.desired, self.preferences, self.status, self.reason = desired, preferences, "Pending", ""
        self.before, self.target = group.launch_template_version, desired["LaunchTemplate"]["Version"]
        for state in group.instance_states:
            launched.setdefault(state.instance.id, self.before)
        # Without it, hosts that match are replaced too.
        self.due = set() if preferences.get("SkipMatching") else {state.instance.id for state in group.instance_states}
        self.total = len(self.stale()) or 1

    def image(self, version):
        return self.group.ec2_launch_template.get_version(version).image_id

    def stale(self):
        """The hosts of another version of the template: the cloud compares versions, whatever is in them."""
        hosts = self.group.instance_states
        return [one for one in hosts if launched.get(one.instance.id, self.target) != self.target or one.instance.id in self.due]

    def step(self):
        if self.status not in ACTIVE:
            return
        if self.status == "Cancelling":
            self.status = "Cancelled"
        elif self.status == "Pending":
            self.status = "InProgress"
        elif self.stale():
            # One more than wished, then one less: at least as many as wished at any time.
            self.group.launch_template_version = self.target
            old = self.stale()[0]
            self.group.replace_autoscaling_group_instances(1, self.group.get_propagated_tags())
            launched[self.group.instance_states[-1].instance.id] = self.target
            self.backend.ec2_backend.terminate_instances([old.instance.id])
            self.group.instance_states.remove(old)
            image = self.backend.ec2_backend.amis[self.image(self.target)]
            if self.status == "InProgress" and "broken" in image.get_tags()[0]["value"]:
                self.back("An alarm went into ALARM during the instance refresh")
        else:
            self.status = {"InProgress": "Successful", "RollbackInProgress": "RollbackSuccessful"}[self.status]
            self.group.launch_template_version = self.group.provided_launch_template_version = self.target

    def back(self, reason):
        self.status, self.reason, self.target, self.due = "RollbackInProgress", reason, self.before, set()

    def described(self):
        left = len(self.stale())
        return {
            "InstanceRefreshId": self.id,
            "AutoScalingGroupName": self.group.name,
            "Status": self.status,
            "StatusReason": self.reason,
            "PercentageComplete": max(0, self.total - left) * 100 // self.total,
            "InstancesToUpdate": left,
            "DesiredConfiguration": self.desired,
            "Preferences": self.preferences,
        }


def refreshes_of(self):
    return refreshes.setdefault((self.region, self._get_param("AutoScalingGroupName")), [])


def running(self):
    found = [one for one in refreshes_of(self) if one.status in ACTIVE]
    if not found:
        error = AutoscalingClientError("No in progress or pending Instance Refresh found")
        error.code = "ActiveInstanceRefreshNotFound"
        raise error
    return found[0]


def start_instance_refresh(self):
    group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
    desired, preferences = self._get_param("DesiredConfiguration"), self._get_param("Preferences", {})
    calls.append({"desired": desired, "preferences": preferences})
    if any(one.status in ACTIVE for one in refreshes_of(self)):
        error = AutoscalingClientError("An Instance Refresh is already in progress and blocks the execution")
        error.code = "InstanceRefreshInProgress"
        raise error
    numbered = desired and desired["LaunchTemplate"]["Version"].isdigit() and str(group.launch_template_version).isdigit()
    if preferences.get("AutoRollback") and not numbered:
        raise ValidationError("AutoRollback needs a desired configuration, and numbered launch template versions")
    refreshes_of(self).insert(0, Refresh(self.autoscaling_backend, group, desired, preferences))
    return ActionResult({"InstanceRefreshId": refreshes_of(self)[0].id})


def describe_instance_refreshes(self):
    wanted = self._get_param("InstanceRefreshIds")
    found = [one for one in refreshes_of(self) if not wanted or one.id in wanted]
    for one in found:
        one.step()
    return ActionResult({"InstanceRefreshes": [one.described() for one in found]})


def cancel_instance_refresh(self):
    refresh = running(self)
    refresh.status = "Cancelling"
    return ActionResult({"InstanceRefreshId": refresh.id})


def rollback_instance_refresh(self):
    refresh = running(self)
    refresh.back("Rollback was requested")
    return ActionResult({"InstanceRefreshId": refresh.id})


def describe_scaling_activities(self):
    return ActionResult({"Activities": []})


for method in (start_instance_refresh, describe_instance_refreshes, cancel_instance_refresh, rollback_instance_refresh, describe_scaling_activities):
    setattr(AutoScalingResponse, method.__name__, method)


def group_of(region, name):
    (backend,) = [backends[region] for backends in autoscaling_backends.values()]
    return backend.autoscaling_groups[name]


def serve():
    """Starts it on a free port and returns its URL."""
    server = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return server, f"http://{host}:{port}"
