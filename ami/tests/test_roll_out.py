"""Rolling an image out, against an emulated group that replaces a host each time that it is looked at."""

import base64
import os
import signal
import subprocess

import pytest

import emulator
from conftest import INTERRUPTIBLE, TOP, script
from lab.hosts import nspawn

ALARM = {"MetricName": "HTTPCode_Target_5XX_Count", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 2, "Threshold": 10.0}
GROUP = "dob-api-a"


class Group:
    """Four hosts, launched from the first version of a template as infrastructure makes it."""

    def __init__(self, aws):
        self.ec2, self.scaling, self.alarms = (aws(service) for service in ("ec2", "autoscaling", "cloudwatch"))
        self.old = self.image("1.0.0")
        data = {"ImageId": self.old, "InstanceType": "t3.micro", "UserData": base64.b64encode(b"DOB_API_THREADS=2").decode()}
        made = self.ec2.create_launch_template(LaunchTemplateName=GROUP, LaunchTemplateData=data)
        self.template = made["LaunchTemplate"]["LaunchTemplateId"]
        self.scaling.create_auto_scaling_group(
            AutoScalingGroupName=GROUP,
            MinSize=4,
            MaxSize=8,
            AvailabilityZones=[f"{self.ec2.meta.region_name}a"],
            LaunchTemplate={"LaunchTemplateId": self.template, "Version": "1"},
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in {"Project": "dob-api", "Role": "service"}.items()],
        )
        self.alarms.put_metric_alarm(AlarmName=f"{GROUP}-errors", Namespace="AWS/ApplicationELB", ComparisonOperator="GreaterThanThreshold", **ALARM)

    def image(self, version, architecture="x86_64", serial=1):
        named = {"Name": f"dob-api-{version}", "Project": "dob-api", "Version": version, "Serial": str(serial)}
        tags = [{"Key": key, "Value": value} for key, value in named.items()]
        disk = self.ec2.create_snapshot(VolumeId=self.ec2.create_volume(Size=1, AvailabilityZone=f"{self.ec2.meta.region_name}a")["VolumeId"])
        return self.ec2.register_image(
            Name=f"dob-api-{version}-{architecture}-{serial}",
            Architecture=architecture,
            RootDeviceName="/dev/xvda",
            TagSpecifications=[{"ResourceType": "image", "Tags": tags}],
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": disk["SnapshotId"]}}],
        )["ImageId"]

    def hosts(self):
        filters = [{"Name": "instance-state-name", "Values": ["running"]}]
        return [host for group in self.ec2.describe_instances(Filters=filters)["Reservations"] for host in group["Instances"]]

    def running(self):
        """The images of the hosts that run."""
        return sorted(host["ImageId"] for host in self.hosts())

    def terraform(self, **settings):
        """Writes a whole version, as Terraform does: with the image and the description of the newest one, which it leaves to roll-outs."""
        newest = max(self.described(), key=lambda one: one["VersionNumber"])
        data = {**newest["LaunchTemplateData"], **settings}
        self.ec2.create_launch_template_version(
            LaunchTemplateId=self.template, LaunchTemplateData=data, VersionDescription=newest.get("VersionDescription", "")
        )

    def described(self):
        return self.ec2.describe_launch_template_versions(LaunchTemplateId=self.template)["LaunchTemplateVersions"]

    def versions(self):
        return {str(one["VersionNumber"]): one["LaunchTemplateData"] for one in self.described()}

    def version(self):
        return self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"][0]["LaunchTemplate"]["Version"]


@pytest.fixture
def group(aws):
    return Group(aws)


def test_every_host_is_replaced_from_a_numbered_version_under_the_alarms(group):
    new = group.image("1.1.0")
    done = script("roll-out", "1.1.0")
    assert group.running() == [new] * 4 and group.version() == "2"
    versions = group.versions()
    assert versions["2"] == {**versions["1"], "ImageId": new}, "all else stays as it was"
    (call,) = emulator.calls
    assert call["desired"] == {"LaunchTemplate": {"LaunchTemplateId": group.template, "Version": "2"}}
    assert call["preferences"]["AlarmSpecification"] == {"Alarms": [f"{GROUP}-errors"]}
    wished = {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200, "AutoRollback": True, "SkipMatching": True}
    assert wished.items() <= call["preferences"].items()
    assert f"ami/roll-out {group.old}" in done.stderr and "100 %" in done.stderr and "Successful" in done.stderr
    script("roll-out", "1.1.0")
    assert set(group.versions()) == {"1", "2"}, "no version is made for what runs already"


def test_of_a_version_the_newest_build_is_rolled_out(group):
    builds = [group.image("1.1.0", serial=serial) for serial in (10, 9)]
    script("roll-out", "1.1.0")
    assert group.running() == [builds[0]] * 4


def test_what_an_alarm_takes_back_ends_as_an_error_that_says_why(group):
    group.image("1.1.0-broken")
    said = script("roll-out", "1.1.0-broken", status=1).stderr
    assert "RollbackSuccessful" in said and "An alarm went into ALARM" in said and "get-console-output" in said
    assert group.running() == [group.old] * 4 and group.version() == "1"


@pytest.fixture
def interrupted(group, owner):
    """A roll-out of 1.1.0 that has begun, and whose watcher was interrupted."""
    group.image("1.1.0")
    slow = {**os.environ, "ROLL_OUT_PACE": "600"}
    process = owner.spawn(*INTERRUPTIBLE, TOP / "ami/roll-out", "1.1.0", stderr=subprocess.PIPE, text=True, env=slow)
    nspawn.wait_until(lambda: emulator.calls, "the roll-out starts", 60)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "it continues in the cloud" in said, said


@pytest.mark.parametrize(("way", "end"), [("--cancel", "Cancelled"), ("--rollback", "RollbackSuccessful")])
@pytest.mark.usefixtures("interrupted")
def test_a_roll_out_that_runs_is_ended_on_request(group, way, end):
    assert "would" in script("roll-out", way, "--dry-run").stderr
    assert end in script("roll-out", way).stderr
    assert group.version() == "1"
    assert end == "Cancelled" or group.running() == [group.old] * 4
    assert "no roll-out runs" in script("roll-out", way, status=1).stderr


@pytest.mark.usefixtures("interrupted")
def test_an_interrupted_watcher_does_not_stop_it_and_can_look_again(group):
    new = group.image("1.2.0")
    assert "another roll-out runs: follow it with --follow" in script("roll-out", new, status=1).stderr
    assert "runs already" in script("roll-out", "1.1.0").stderr
    assert group.version() == "2" and len(emulator.calls) == 1
    assert "no roll-out runs" in script("roll-out", "--follow", status=1).stderr


def test_a_dry_run_changes_nothing(group):
    group.image("1.1.0")
    said = script("roll-out", "1.1.0", "--dry-run").stderr
    assert "would make version 2" in said and f"watched by {GROUP}-errors" in said
    assert set(group.versions()) == {"1"} and not emulator.calls


def test_what_could_not_be_taken_back_does_not_start(group):
    group.image("1.1.0")
    group.alarms.set_alarm_state(AlarmName=f"{GROUP}-errors", StateValue="ALARM", StateReason="test")
    assert f"these alarms ring, and would take it back at once: {GROUP}-errors" in script("roll-out", "1.1.0", status=1).stderr
    group.alarms.delete_alarms(AlarmNames=[f"{GROUP}-errors"])
    assert "nothing would take a bad version back" in script("roll-out", "1.1.0", status=1).stderr
    group.scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, LaunchTemplate={"LaunchTemplateId": group.template, "Version": "$Latest"})
    assert "names no version to go back to" in script("roll-out", "1.1.0", status=1).stderr
    assert not emulator.calls


def test_what_is_not_there_is_named_in_one_sentence(group):
    assert "has no image 9.9.9: 'ami/publish' brings one there" in script("roll-out", "9.9.9", status=1).stderr
    said = script("roll-out", group.old, "--region", "eu-central-1", status=1).stderr
    assert "eu-central-1 should have one group tagged" in said and said.count("\n") == 1
