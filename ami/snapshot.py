"""A disk's file becomes a snapshot, by the EBS direct API: no instance and no bucket takes part."""

import base64
import concurrent.futures
import hashlib
import json
import os
import threading

from ami.terminal import Progress, Stop, say

BLOCK = 512 * 1024
EMPTY = bytes(BLOCK)
GIB = 1024**3
WORKERS = 16
ABANDONED = 60  # minutes without a block, after which the cloud gives a snapshot up


def blocks(file):
    """Yields the number and the content of each block that holds anything but zeros; holes are not even read."""
    with open(file, "rb") as disk:
        size, offset = os.fstat(disk.fileno()).st_size, 0
        while offset < size:
            try:
                offset = os.lseek(disk.fileno(), offset, os.SEEK_DATA) // BLOCK * BLOCK
            except OSError:
                return
            disk.seek(offset)
            content = disk.read(BLOCK).ljust(BLOCK, b"\0")
            if content != EMPTY:
                yield offset // BLOCK, content
            offset += BLOCK


def digest_of(file):
    with open(file, "rb") as disk:
        return hashlib.file_digest(disk, "sha256").hexdigest()


class Journal:
    """Which blocks of which snapshot arrived: a file beside the image, so that an upload continues where it stopped."""

    def __init__(self, file, digest, region):
        self.path = f"{file}.{region}.upload"
        self.key, self.snapshot, self.arrived = {"digest": digest, "region": region}, None, set()
        self.lock = threading.Lock()
        try:
            with open(self.path) as lines:
                head = json.loads(lines.readline())
                if self.key.items() <= head.items():
                    self.snapshot = head["snapshot"]
                    # The last line may have been cut short.
                    self.arrived = {int(line) for line in lines if line.endswith("\n")}
        except (FileNotFoundError, ValueError, KeyError):
            pass

    def begin(self, snapshot):
        self.snapshot, self.arrived = snapshot, set()
        with open(self.path, "w") as lines:
            print(json.dumps({**self.key, "snapshot": snapshot}), file=lines)

    def add(self, number):
        with self.lock, open(self.path, "a") as lines:
            print(number, file=lines)

    def end(self):
        os.unlink(self.path)


def upload(ebs, ec2, file, digest, tags):
    """Returns a snapshot with the file's content; what an earlier attempt sent is not sent again."""
    journal = Journal(file, digest, ebs.meta.region_name)
    if journal.snapshot and not pending(ec2, journal.snapshot):
        journal.snapshot = None
    if journal.snapshot:
        say(f"continuing {journal.snapshot}, {len(journal.arrived)} blocks of which arrived")
    else:
        gib = -(-os.path.getsize(file) // GIB)
        started = ebs.start_snapshot(VolumeSize=gib, Tags=tags, Description=os.path.basename(file), Timeout=ABANDONED)
        if started.get("BlockSize", BLOCK) not in (BLOCK, BLOCK // 1024):
            raise Stop(f"the cloud wants blocks of {started['BlockSize']} bytes, and this program knows only {BLOCK}")
        journal.begin(started["SnapshotId"])
    send(ebs, file, journal)
    journal.end()
    return journal.snapshot


def pending(ec2, snapshot):
    """Whether blocks can still be written; the cloud gives up what nobody writes to."""
    found = ec2.describe_snapshots(Filters=[{"Name": "snapshot-id", "Values": [snapshot]}])["Snapshots"]
    return bool(found) and found[0]["State"] == "pending"


def send(ebs, file, journal):
    """Sends what is missing, many blocks at a time, and seals the snapshot with a checksum over all of them."""
    total = sum(1 for _ in blocks(file))
    checksums, progress = hashlib.sha256(), Progress("uploading")

    def put(number, content, checksum):
        ebs.put_snapshot_block(
            SnapshotId=journal.snapshot,
            BlockIndex=number,
            BlockData=content,
            DataLength=BLOCK,
            Checksum=base64.b64encode(checksum).decode(),
            ChecksumAlgorithm="SHA256",
        )
        journal.add(number)

    # Few blocks wait in memory at a time. After an error, or Ctrl-C, what was not begun is dropped.
    pool, waiting = concurrent.futures.ThreadPoolExecutor(WORKERS), set()
    try:
        for count, (number, content) in enumerate(blocks(file), 1):
            checksum = hashlib.sha256(content).digest()
            checksums.update(checksum)
            if number not in journal.arrived:
                waiting.add(pool.submit(put, number, content, checksum))
            if len(waiting) >= 2 * WORKERS:
                done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    future.result()
            progress.show(count * 100 // total, f"{count * BLOCK >> 20} of {total * BLOCK >> 20} MB")
        for future in waiting:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        progress.end()
    ebs.complete_snapshot(
        SnapshotId=journal.snapshot,
        ChangedBlocksCount=total,
        ChecksumAlgorithm="SHA256",
        Checksum=base64.b64encode(checksums.digest()).decode(),
        ChecksumAggregationMethod="LINEAR",
    )
