"""Waits for what the cloud makes in its own time: a snapshot that is sealed, an image that is copied."""

import os
import time

from ami.terminal import Progress, Stop

# How often the cloud is asked; tests need not wait as long as a person watches.
PACE = float(os.environ.get("PUBLISH_PACE", "10"))
# A copy to another region has no deadline. After this time a person should look.
PATIENCE_S = 3 * 3600


def wait(title, look, wished, failed=("error", "failed", "invalid", "deregistered")):
    """Asks until the state is the wished one, and shows how far it is: `look` returns the state, the percentage and a reason."""
    progress, end = Progress(title), time.monotonic() + PATIENCE_S
    try:
        while True:
            state, percent, reason = look()
            progress.show(100 if state == wished else percent, state)
            if state == wished:
                return
            if state in failed:
                raise Stop(f"{title} ended as '{state}': {reason or 'no reason given'}; run the same command again to begin it again")
            if time.monotonic() > end:
                raise Stop(f"{title} takes more than {PATIENCE_S // 3600} hours and continues in the cloud: run the same command again to wait on")
            # The pace of the questions: the cloud tells nobody when a copy ends.
            time.sleep(PACE)
    finally:
        progress.end()


def for_snapshot(ec2, snapshot):
    def look():
        (found,) = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
        return found["State"], int((found.get("Progress") or "0%").rstrip("%") or 0), found.get("StateMessage")

    wait(f"sealing {snapshot}", look, "completed")


def for_image(ec2, image):
    """An image has no percentage, but its snapshot has."""

    def look():
        (found,) = ec2.describe_images(ImageIds=[image])["Images"]
        disks = [disk["Ebs"]["SnapshotId"] for disk in found.get("BlockDeviceMappings", []) if disk.get("Ebs", {}).get("SnapshotId")]
        made = ec2.describe_snapshots(Filters=[{"Name": "snapshot-id", "Values": disks}])["Snapshots"] if disks else []
        percent = min((int((one.get("Progress") or "0%").rstrip("%") or 0) for one in made), default=0)
        return found["State"], min(percent, 99), found.get("StateReason", {}).get("Message")

    wait(f"waiting for {image} in {ec2.meta.region_name}", look, "available")
