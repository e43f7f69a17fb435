"""Writes the container image for both architectures as one OCI image index.

FROM scratch: one layer with the static binary and its data folder. It is written here rather than by a builder
because builders drop HEALTHCHECK from OCI images, and so that it takes neither root nor a daemon.
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

from tools.arguments import Parser

TOP = pathlib.Path(__file__).resolve().parent.parent
TARGETS = {"amd64": "x86_64-unknown-linux-musl", "arm64": "aarch64-unknown-linux-musl"}
DATA, USER = "/var/lib/dob-api", 65532


def output(*command):
    return subprocess.run(command, cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Blobs:
    """The content-addressed part of an OCI layout."""

    def __init__(self, folder):
        self.folder = folder / "blobs/sha256"
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, content, kind, **more):
        """Stores bytes, or an object as JSON, and returns its descriptor."""
        if not isinstance(content, bytes):
            content = json.dumps(content, indent=1, sort_keys=True).encode()
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / digest).write_bytes(content)
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content), **more}


def layer(binary):
    """A tar file of the binary and the data folder, the same bytes for the same binary."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in ("usr", "usr/bin", "var", "var/lib", DATA[1:]):
            folder = tarfile.TarInfo(path)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            if path == DATA[1:]:
                folder.uid = folder.gid = USER
                folder.mode = 0o700
            tar.addfile(folder)
        file = tarfile.TarInfo("usr/bin/dob-api")
        file.size, file.mode = binary.stat().st_size, 0o755
        with binary.open("rb") as content:
            tar.addfile(file, content)
    return buffer.getvalue()


def manifest(blobs, arch, binary, created, labels):
    files = blobs.add(layer(binary), "layer.v1.tar")
    config = blobs.add(
        {
            "architecture": arch,
            "os": "linux",
            "created": created,
            "config": {
                "Entrypoint": ["/usr/bin/dob-api"],
                "Env": ["DOB_API_LISTEN=0.0.0.0:8080", f"DOB_API_DATA_DIR={DATA}"],
                "ExposedPorts": {"8080/tcp": {}},
                "Healthcheck": {"Test": ["CMD", "/usr/bin/dob-api", "health"], "Interval": 10 * 10**9},
                "Labels": labels,
                "StopSignal": "SIGTERM",
                "User": f"{USER}:{USER}",
                "Volumes": {DATA: {}},
            },
            "rootfs": {"type": "layers", "diff_ids": [files["digest"]]},
        },
        "config.v1+json",
    )
    kind = "manifest.v1+json"
    content = {"schemaVersion": 2, "mediaType": f"application/vnd.oci.image.{kind}", "config": config, "layers": [files]}
    return blobs.add(content, kind, platform={"architecture": arch, "os": "linux"})


def present(file):
    if not os.path.isfile(file):
        raise argparse.ArgumentTypeError(f"there is no file '{file}'")
    return pathlib.Path(file)


def main():
    parser = Parser(prog="./dev container", description=__doc__.splitlines()[0])
    for arch in TARGETS:
        parser.add_argument(f"--{arch}", type=present, metavar="FILE", help=f"use this {arch} binary instead of building one")
    parser.add_argument("--out", type=pathlib.Path, metavar="FOLDER", help="the OCI layout to write (default: target/dist/image)")
    options = parser.parse_args()
    if subprocess.run(["bash", "-c", ". tools/lib.sh; need_linux", "container"], cwd=TOP, check=False).returncode != 0:
        sys.exit(1)
    out = options.out or pathlib.Path(output("bash", "-c", '. tools/lib.sh && realpath -m "$(dist)"')) / "image"
    binaries = {arch: getattr(options, arch) or TOP / output("./dev", "build", target) for arch, target in TARGETS.items()}
    version = output("bash", "-c", ". tools/lib.sh && version")
    released = output("bash", "-c", "packaging/changelog | dpkg-parsechangelog -l- -S Timestamp")
    created = output("date", "-u", "-d", f"@{released}", "+%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "org.opencontainers.image.title": "dob-api",
        "org.opencontainers.image.description": "Saves a date of birth and greets with the days until the birthday",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
        "org.opencontainers.image.source": "https://github.com/dob-api/dob-api",
    }
    blobs = Blobs(out)
    manifests = [manifest(blobs, arch, binary, created, labels) for arch, binary in binaries.items()]
    kind = "index.v1+json"
    header = {"schemaVersion": 2, "mediaType": f"application/vnd.oci.image.{kind}"}
    image = blobs.add({**header, "manifests": manifests, "annotations": labels}, kind)
    image["annotations"] = {"org.opencontainers.image.ref.name": version}
    (out / "index.json").write_text(json.dumps({**header, "manifests": [image]}))
    (out / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    print(f"{out} {image['digest']}")


try:
    main()
except OSError as error:
    sys.exit(f"container: {error.strerror}: {error.filename}: free some space, or choose another folder with --out")
except subprocess.CalledProcessError as error:
    sys.exit(f"container: '{' '.join(error.cmd)}' failed, see above")
