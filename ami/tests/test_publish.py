"""Publishing and rolling out, against an emulated AWS that checks what it is sent."""

import hashlib
import os
import pty
import random
import re
import signal
import subprocess

import pytest

import emulator
from conftest import FIRST, INTERRUPTIBLE, TOP, script
from lab.hosts import nspawn

SECOND = "eu-central-1"
MB = 1 << 20
BLOCK = 512 * 1024


@pytest.fixture
def disk(tmp_path):
    """Makes a disk's file: blocks of data, of zeros, and holes between them."""

    def make(version, blocks=40):
        file = tmp_path / f"dob-api_{version}_amd64.raw"
        noise = random.Random(version)
        with file.open("wb") as disk:
            for number in range(blocks):
                disk.seek(3 * number * BLOCK)
                disk.write(noise.randbytes(1000))
            disk.write(bytes(2 * MB))
            disk.truncate((3 * blocks + 8) * BLOCK)
        return file

    return make


def publish(file, *options, status=0):
    return script("publish", file, *options, status=status)


def published(output):
    return dict(line.split() for line in output.stdout.splitlines())


def stored(aws, snapshot, size):
    """The content of a snapshot, block by block, as its digest."""
    ebs, content = aws("ebs"), {}
    for block in ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]:
        read = ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=block["BlockIndex"], BlockToken=block["BlockToken"])
        content[block["BlockIndex"]] = read["BlockData"].read()
    digest, empty = hashlib.sha256(), bytes(512 * 1024)
    for number in range(size // len(empty)):
        digest.update(content.get(number, empty))
    return digest.hexdigest()


def test_what_is_published_is_what_was_built_and_says_how_to_run_it(aws, disk):
    file = disk("1.0.0~rc1")
    done = publish(file, "--share", "210987654321")
    images = published(done)
    assert set(images) == {FIRST, SECOND}
    (image,) = aws("ec2").describe_images(ImageIds=[images[FIRST]])["Images"]
    expected = {"Name": "dob-api-1.0.0-rc1-amd64-1", "Architecture": "x86_64", "BootMode": "uefi", "ImdsSupport": "v2.0", "EnaSupport": True}
    assert expected.items() <= image.items()
    (mapping,) = image["BlockDeviceMappings"]
    assert (image["RootDeviceName"], mapping["DeviceName"], mapping["Ebs"]["VolumeType"]) == ("/dev/xvda", "/dev/xvda", "gp3")
    assert stored(aws, mapping["Ebs"]["SnapshotId"], file.stat().st_size) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert sorted(emulator.puts) == [3 * number for number in range(40)], "only blocks that hold something, each once"
    for region in (FIRST, SECOND):
        (image,) = aws("ec2", region).describe_images(ImageIds=[images[region]])["Images"]
        tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
        assert (tags["Project"], tags["Version"], tags["Architecture"]) == ("dob-api", "1.0.0~rc1", "amd64")
        allowed = aws("ec2", region).describe_image_attribute(ImageId=images[region], Attribute="launchPermission")
        assert allowed["LaunchPermissions"] == [{"UserId": "210987654321"}]
    assert "uploading 100 %" in done.stderr and not list(file.parent.glob("*.upload"))


def test_published_again_it_changes_nothing(aws, disk):
    file = disk("1.0.0")
    first = published(publish(file))
    sent = len(emulator.puts)
    assert published(publish(file)) == first and len(emulator.puts) == sent


def test_other_packages_of_the_same_version_are_its_next_build(aws, disk):
    file = disk("1.0.0", blocks=2)
    manifest = file.with_suffix(".manifest")
    manifest.write_text("openssl 1\n")
    first = published(publish(file))
    # Built by other tools, of the same packages.
    file.write_bytes(file.read_bytes() + bytes(BLOCK))
    sent = len(emulator.puts)
    assert published(publish(file)) == first and len(emulator.puts) == sent
    manifest.write_text("openssl 2\n")
    done = publish(file)
    second = published(done)
    assert "built with other packages than build 1: this is build 2" in done.stderr and not set(second.values()) & set(first.values())
    for region in (FIRST, SECOND):
        found = aws("ec2", region).describe_images(ImageIds=[first[region], second[region]])["Images"]
        assert {one["Name"] for one in found} == {"dob-api-1.0.0-amd64-1", "dob-api-1.0.0-amd64-2"}
    # What an earlier attempt registered in the first region alone is copied, and no third build.
    aws("ec2", SECOND).deregister_image(ImageId=second[SECOND])
    again = published(publish(file))
    assert again[FIRST] == second[FIRST] and again[SECOND] not in (first[SECOND], second[SECOND])
    (found,) = aws("ec2", SECOND).describe_images(ImageIds=[again[SECOND]])["Images"]
    assert found["Name"] == "dob-api-1.0.0-amd64-2"


def test_an_interrupted_upload_continues_where_it_stopped(aws, disk):
    file = disk("1.0.0")
    emulator.refuse_after = 15
    assert "no more blocks are taken" in publish(file, status=1).stderr
    assert len(emulator.puts) == 15
    emulator.refuse_after = None
    done = publish(file)
    assert "15 blocks of which arrived" in done.stderr
    assert len(emulator.puts) == 40 == len(set(emulator.puts)), "no block is sent twice"
    (image,) = aws("ec2").describe_images(ImageIds=[published(done)[FIRST]])["Images"]
    assert stored(aws, image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"], file.stat().st_size) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_after_an_interrupt_it_says_how_to_continue_and_does(aws, owner, disk):
    file = disk("1.0.0", blocks=300)
    process = owner.spawn(*INTERRUPTIBLE, TOP / "ami/publish", file, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    nspawn.wait_until(lambda: len(emulator.puts) > 20, "some blocks arrive", 60)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "run the same command again" in said, said
    assert len(emulator.puts) < 300
    before = len(emulator.puts)
    publish(file)
    assert len(set(emulator.puts)) == 300 and len(emulator.puts) - before <= 300 - before + 32


def test_a_dry_run_changes_nothing_and_says_what_would_be_done(aws, disk):
    done = publish(disk("1.0.0"), "--dry-run", "--share", "210987654321")
    assert "would upload 20 MB and register dob-api-1.0.0-amd64-1" in done.stderr and "would copy" in done.stderr and "would share" in done.stderr
    assert done.stdout == "" and not emulator.puts
    assert not aws("ec2").describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "tag:Project", "Values": ["dob-api"]}])["Snapshots"]


def test_old_images_are_pruned_but_never_one_that_a_launch_template_uses(aws, disk):
    ec2, images = aws("ec2"), {}
    for number in range(3):
        images[number] = published(publish(disk(f"1.{number}.0", blocks=2)))[FIRST]
        if number == 0:
            ec2.create_launch_template(LaunchTemplateName="dob-api", LaunchTemplateData={"ImageId": images[0]})
            ec2.create_launch_template_version(LaunchTemplateName="dob-api", LaunchTemplateData={"ImageId": "ami-12345678"})
    wished = publish(disk("1.3.0", blocks=2), "--keep", "2", "--dry-run").stderr
    assert f"would prune {images[1]}" in wished and f"keeping {images[0]}" in wished
    images[3] = published(publish(disk("1.3.0", blocks=2), "--keep", "2"))[FIRST]
    left = {image["ImageId"] for image in ec2.describe_images(Owners=["self"])["Images"]}
    assert left == {images[0], images[2], images[3]}
    snapshots = ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "tag:Project", "Values": ["dob-api"]}])["Snapshots"]
    assert len([one for one in snapshots if one["State"] == "completed"]) == 3


def test_what_takes_the_cloud_long_is_waited_for_with_progress(aws, disk):
    """A client's own waiter gives up after 40 looks, which is ten minutes: a copy into another region may take longer."""
    emulator.patience = 60
    done = publish(disk("1.0.0", blocks=2))
    assert set(published(done)) == {FIRST, SECOND} and not emulator.unfinished
    assert re.search(r"sealing snap-\w+ 100 % completed", done.stderr) and re.search(rf"waiting for ami-\w+ in {SECOND} 100 % available", done.stderr)


@pytest.mark.parametrize("name", ["image.raw", "dob-api_1.0.0_riscv64.raw", "dob-api_1.0.0_amd64.raw"])
def test_a_wrong_file_is_refused_in_one_sentence(aws, tmp_path, name):
    said = publish(tmp_path / name, status=64).stderr
    assert said.startswith("./dev publish: ") and said.count("\n") == 1, said


def test_on_a_terminal_the_progress_is_one_line_that_is_redrawn(aws, disk):
    master, terminal = pty.openpty()
    process = subprocess.Popen([TOP / "ami/publish", disk("1.0.0")], stderr=terminal, stdout=subprocess.PIPE)
    process.communicate(timeout=120)
    os.close(terminal)
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert process.returncode == 0 and re.search(r"\r\x1b\[Kuploading \[#{30}\] 100 % 20 of 20 MB", shown)
