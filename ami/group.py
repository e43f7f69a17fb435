"""The service hosts of a region, as the cloud describes them: their group, its images, alarms and roll-outs."""

from ami.terminal import Stop

ACTIVE = ("Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking")


def tag(described, key, default=None):
    return next((one["Value"] for one in described.get("Tags", []) if one["Key"] == key), default)


class Region:
    """The clients of a region and the group of service hosts in it."""

    def __init__(self, name, group):
        import boto3

        self.name = name
        self.ec2, self.scaling, self.alarms = (boto3.client(service, region_name=name) for service in ("ec2", "autoscaling", "cloudwatch"))
        self.group = group or self.find_group()

    def find_group(self):
        filters = [{"Name": "tag:Project", "Values": ["dob-api"]}, {"Name": "tag:Role", "Values": ["service"]}]
        pages = self.scaling.get_paginator("describe_auto_scaling_groups").paginate(Filters=filters)
        names = [group["AutoScalingGroupName"] for page in pages for group in page["AutoScalingGroups"]]
        if len(names) != 1:
            found = ", ".join(names) or "none"
            raise Stop(f"{self.name} should have one group tagged Project=dob-api and Role=service, and has: {found}; name it with --group")
        return names[0]

    def described(self):
        groups = self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.group])["AutoScalingGroups"]
        if not groups:
            raise Stop(f"{self.name} has no Auto Scaling group {self.group}")
        return groups[0]

    def template(self):
        """The launch template and the number of its version that new hosts come from."""
        group = self.described()
        template = group.get("LaunchTemplate")
        if not template:
            raise Stop(f"{self.group} has no launch template: './dev infra' creates one")
        if not template["Version"].isdigit():
            raise Stop(
                f"{self.group} launches the version {template['Version']}, which names no version to go back to: "
                "give the group a number (aws autoscaling update-auto-scaling-group --launch-template)"
            )
        return template["LaunchTemplateId"], int(template["Version"])

    def architectures(self, kind):
        """The processors of hosts of this type; any, if it is not known."""
        if not kind:
            return None
        (found,) = self.ec2.describe_instance_types(InstanceTypes=[kind])["InstanceTypes"]
        return found["ProcessorInfo"]["SupportedArchitectures"]

    def image(self, wanted, architectures):
        """The image that is meant, if it is there, ready, and fits the hosts: of a version's images, that for their processors."""
        if wanted.startswith("ami-"):
            filters = [{"Name": "image-id", "Values": [wanted]}]
        else:
            filters = [{"Name": "tag:Project", "Values": ["dob-api"]}, {"Name": "tag:Version", "Values": [wanted]}]
        there = self.ec2.describe_images(Filters=filters)["Images"]
        if not there:
            raise Stop(f"{self.name} has no image {wanted}: 'ami/publish' brings one there")
        found = [one for one in there if not architectures or one["Architecture"] in architectures]
        if not found:
            names = ", ".join(f"{one['ImageId']} ({one['Architecture']})" for one in there)
            raise Stop(
                f"the hosts of {self.group} are {' or '.join(architectures)}, and of {wanted} there is only {names}: publish an image for them"
            )
        # Of a version, the newest build.
        newest = max(int(tag(one, "Serial", "0")) for one in found)
        found = [one for one in found if int(tag(one, "Serial", "0")) == newest]
        if len(found) > 1:
            names = ", ".join(f"{one['ImageId']} ({one['Architecture']}, {one['Name']})" for one in found)
            raise Stop(f"the version {wanted} has several images: name one of {names}")
        if found[0]["State"] != "available":
            raise Stop(f"{found[0]['ImageId']} is {found[0]['State']}, not available: wait until 'ami/publish' has ended")
        return found[0]["ImageId"]

    def watched(self):
        """The alarms of the group's balancer, by name, with their states."""
        pages = self.alarms.get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{self.group}-", AlarmTypes=["MetricAlarm"])
        return {
            alarm["AlarmName"]: alarm["StateValue"]
            for page in pages
            for alarm in page["MetricAlarms"]
            if alarm.get("Namespace") == "AWS/ApplicationELB"
        }

    def refresh(self, identity=None):
        """The newest instance refresh, or that one; none if there never was one."""
        which = {"InstanceRefreshIds": [identity]} if identity else {"MaxRecords": 1}
        found = self.scaling.describe_instance_refreshes(AutoScalingGroupName=self.group, **which)["InstanceRefreshes"]
        return found[0] if found else None

    def active(self):
        found = self.refresh()
        if not found or found["Status"] not in ACTIVE:
            raise Stop(f"no roll-out runs in {self.group} ({self.name}); to go back after one has ended, roll out the image before")
        return found
