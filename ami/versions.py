"""The versions of a launch template: Terraform writes whole ones, and a roll-out copies its newest with another image."""

import re

# Terraform keeps the description of the version before, so that of a roll-out names its own number.
COPY = re.compile(r"ami-[0-9a-f]+ from \d+, roll-out (\d+)")


class Versions:
    """All versions of a launch template, by their numbers."""

    def __init__(self, ec2, template):
        self.ec2, self.template = ec2, template
        pages = ec2.get_paginator("describe_launch_template_versions").paginate(LaunchTemplateId=template)
        self.all = {one["VersionNumber"]: one for page in pages for one in page["LaunchTemplateVersions"]}

    def image(self, number):
        return self.all[number]["LaunchTemplateData"].get("ImageId")

    def settings(self, number):
        """What a version sets for its hosts, except the image."""
        return {name: value for name, value in self.all[number]["LaunchTemplateData"].items() if name != "ImageId"}

    def copied(self, number):
        """Whether a roll-out made it."""
        found = COPY.fullmatch(self.all[number].get("VersionDescription", ""))
        return bool(found) and int(found[1]) == number

    def written(self):
        """The newest that Terraform wrote, or any hand but a roll-out's; where it was deleted, the newest copy is as good."""
        return max((number for number in self.all if not self.copied(number)), default=max(self.all))

    def fit(self, image):
        """The newest with this image and all else as Terraform wrote it last, if there is one."""
        settings = self.settings(self.written())
        return max((number for number in self.all if self.image(number) == image and self.settings(number) == settings), default=None)

    def next(self):
        return max(self.all) + 1

    def make(self, image):
        """Makes the version that fits, and returns its number."""
        source = self.written()
        made = self.ec2.create_launch_template_version(
            LaunchTemplateId=self.template,
            SourceVersion=str(source),
            VersionDescription=f"{image} from {source}, roll-out {self.next()}",
            LaunchTemplateData={"ImageId": image},
        )
        return made["LaunchTemplateVersion"]["VersionNumber"]
