"""What a release holds besides packages, and how it is pushed: bad input is one sentence, and leaves nothing behind."""

import hashlib
import http.server
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import tarfile
import threading

import pytest

from conftest import TOP, VERSION
from lab.hosts import nspawn

ARCHITECTURES = ("amd64", "arm64")
IMAGE = "localhost:{port}/owner/dob-api"


def package(folder, arch, version=VERSION, binary=b"a binary", path="usr/bin/dob-api"):
    """Writes a package with a file in the binary's place."""
    tree = folder / f"tree-{arch}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: dob-api\nVersion: {version}\nArchitecture: {arch}\nMaintainer: x <x@example.org>\nDescription: x\n"
    (tree / "DEBIAN/control").write_text(control)
    (tree / path).parent.mkdir(parents=True)
    (tree / path).write_bytes(binary)
    (tree / path).chmod(0o755)
    file = folder / f"dob-api_{version}_{arch}.deb"
    nspawn.run("dpkg-deb", "--root-owner-group", "--build", tree, file)
    shutil.rmtree(tree)
    return file


@pytest.fixture
def folder(tmp_path):
    """A folder with a package of each architecture."""
    made = tmp_path / "dist"
    made.mkdir()
    for arch in ARCHITECTURES:
        package(made, arch, binary=arch.encode())
    return made


def tool(name, *arguments, **environment):
    command = [TOP / "packaging" / name, *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def refused(ended, said, code=1):
    """One sentence, that says what is wrong."""
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    assert said in ended.stderr and ended.stderr.count("\n") == 1, ended.stderr


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_of_packages_gets_binaries_and_a_container_that_podmans_load_reads(folder):
    assert tool("archives", folder).returncode == 0
    archives = [f"dob-api_{VERSION}_{part}" for part in ("container.tar", "linux-amd64.tar.gz", "linux-arm64.tar.gz")]
    assert [name for name in names(folder) if not name.endswith(".deb")] == archives
    for arch in ARCHITECTURES:
        with tarfile.open(folder / f"dob-api_{VERSION}_linux-{arch}.tar.gz") as archive:
            assert archive.extractfile(f"dob-api_{VERSION}_linux-{arch}/dob-api").read() == arch.encode()
    with tarfile.open(folder / archives[0]) as archive:
        index = json.load(archive.extractfile("index.json"))
        assert "oci-layout" in archive.getnames()
    assert index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] == f"dob-api:{VERSION}"


def test_the_same_packages_give_the_same_bytes(folder):
    kept = [{}, {}]
    for digests in kept:
        assert tool("archives", folder, TZ="Asia/Tokyo" if digests is kept[1] else "UTC").returncode == 0
        digests.update({name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names(folder)})
    assert kept[0] == kept[1]


def without(folder):
    next(folder.glob("*_arm64.deb")).unlink()


def twice(folder):
    package(folder, "arm64", version="0.0.9")


def cut(folder):
    file = next(folder.glob("*_arm64.deb"))
    file.write_bytes(file.read_bytes()[:-40])


def text(folder):
    next(folder.glob("*_arm64.deb")).write_text("<html>Not Found</html>")


def empty(folder):
    without(folder)
    package(folder, "arm64", path="usr/share/nothing")


def mixed(folder):
    without(folder)
    package(folder, "arm64", version="0.0.9")


@pytest.mark.parametrize(
    ("breakage", "said"),
    [
        (without, "has no package for arm64, or several"),
        (twice, "has no package for arm64, or several"),
        (cut, "is not a complete package"),
        (text, "is not a complete package"),
        (empty, "has no /usr/bin/dob-api"),
        (mixed, f"are of two versions, {VERSION} and 0.0.9"),
    ],
)
def test_broken_packages_give_no_archives(folder, breakage, said):
    breakage(folder)
    before = names(folder)
    refused(tool("archives", folder), said)
    assert names(folder) == before


@pytest.mark.parametrize("name", ["archives", "sums", "push"])
def test_a_folder_that_is_not_there_is_a_wrong_argument(tmp_path, name):
    more = ["ghcr.io/owner/dob-api"] if name == "push" else []
    refused(tool(name, tmp_path / "nothing", *more), "there is no folder", code=64)


def test_the_sums_are_of_every_file_under_its_name_on_github(folder):
    (folder / "dob-api_1~rc1.tar").write_text("a candidate")
    (folder / "SHA256SUMS").write_text("of an earlier attempt\n")
    assert tool("sums", folder).returncode == 0
    listed = [line[66:] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert listed == [name for name in names(folder) if name != "SHA256SUMS"] and "dob-api_1.rc1.tar" in listed
    nspawn.run("sha256sum", "--strict", "--check", "SHA256SUMS", cwd=folder)


def test_two_files_that_would_get_the_same_name_are_refused(folder):
    for name in ("dob-api_1~rc1.tar", "dob-api_1.rc1.tar"):
        (folder / name).write_text(name)
    refused(tool("sums", folder), "which would get the same name")
    assert (folder / "dob-api_1.rc1.tar").read_text() == "dob-api_1.rc1.tar" and not (folder / "SHA256SUMS").exists()


def test_no_files_are_no_release(tmp_path):
    refused(tool("sums", tmp_path), "has no files")
    assert names(tmp_path) == []


@pytest.fixture
def summed(folder):
    assert tool("sums", folder).returncode == 0
    return folder


def changed(folder):
    with next(folder.glob("*_arm64.deb")).open("ab") as file:
        file.write(b"\0")


def added(folder):
    (folder / "unsigned.tar").write_text("nobody summed this")


def mangled(folder):
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write("0123 dob-api\n")


def unsummed(folder):
    (folder / "SHA256SUMS").unlink()


@pytest.mark.parametrize(
    ("breakage", "said"),
    [(changed, "_arm64.deb"), (without, "_arm64.deb"), (added, "unsigned.tar"), (mangled, "improperly formatted"), (unsummed, "has no SHA256SUMS")],
)
def test_files_that_are_not_those_of_their_sums_are_not_released(summed, breakage, said, tmp_path):
    # A release begins with a question to GitHub, by gh.
    (tmp_path / "gh").write_text(f"#!/bin/sh\necho asked >>{tmp_path}/asked\n")
    (tmp_path / "gh").chmod(0o755)
    breakage(summed)
    path = f"{tmp_path}:{os.environ['PATH']}"
    refused(tool("release", f"v{VERSION}", summed, f"ghcr.io/owner/dob-api@sha256:{'0' * 64}", PATH=path), said)
    assert not (tmp_path / "asked").exists()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    made = tmp_path_factory.mktemp("certificate")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    nspawn.run("openssl", "req", "-x509", *curve, *subject, "-keyout", made / "key", "-out", made / "crt")
    return made


@pytest.fixture
def registry(certificate):
    """A registry that refuses by this status whatever is asked of it, or only what is sent; it notes what it was asked."""
    servers = []

    def start(status, only_writes):
        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                asked.append(f"{self.command} {self.path}")
                writes = self.command in ("POST", "PUT", "PATCH")
                known = self.path == "/v2/" and only_writes
                self.send_response(200 if known else status if writes or not only_writes else 404)
                said = json.dumps({"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}).encode()
                self.send_header("WWW-Authenticate", 'Basic realm="registry"')
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(said)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = answer

            def log_message(self, *_):
                pass

        asked = []
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "crt", certificate / "key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server.server_address[1], asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def push(folder, port, certificate):
    return tool("push", folder, IMAGE.format(port=port), SSL_CERT_FILE=str(certificate / "crt"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    made = tmp_path_factory.mktemp("whole")
    for arch in ARCHITECTURES:
        package(made, arch, binary=arch.encode() * 1000)
    assert tool("archives", made).returncode == 0
    return made


@pytest.fixture
def built(whole, tmp_path):
    """A folder with a container."""
    return pathlib.Path(shutil.copytree(whole, tmp_path / "built"))


@pytest.mark.parametrize(
    ("status", "only_writes", "said"),
    [(401, False, "unauthorized"), (403, True, "denied"), (500, True, "500"), (None, False, "connection refused")],
)
def test_a_registry_that_refuses_is_one_sentence(built, registry, certificate, status, only_writes, said):
    if status:
        port, asked = registry(status, only_writes)
    else:
        port, asked = 1, ["nobody answers there"]
    refused(push(built, port, certificate), said)
    assert asked and not any(one.startswith("PUT") for one in asked)


def other_bytes(archive):
    """Changes a byte of the largest file in an archive, a layer with a binary."""
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    largest = max(files, key=lambda name: len(files[name]))
    files[largest] = files[largest][:-1] + b"!"
    content = archive.parent.parent / "content"
    for name, data in files.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_bytes(data)
    nspawn.run("tar", "-cf", archive, "-C", content, *(path.name for path in content.iterdir()))


@pytest.mark.parametrize(
    ("breakage", "said"),
    [
        (lambda archive: archive.unlink(), "has no container, or several"),
        (lambda archive: shutil.copy(archive, archive.with_name("dob-api_0.0.9_container.tar")), "has no container, or several"),
        (lambda archive: archive.write_bytes(archive.read_bytes()[:2000]), "is broken"),
        (lambda archive: archive.write_text("<html>Not Found</html>"), "is broken"),
        (other_bytes, "is broken"),
    ],
)
def test_a_broken_container_is_not_pushed(built, registry, certificate, breakage, said):
    port, asked = registry(403, True)
    breakage(next(built.glob("*_container.tar")))
    refused(push(built, port, certificate), said)
    assert asked == []


@pytest.mark.parametrize("image", ["ghcr.io/owner/dob-api:1", "ghcr.io/owner/dob-api@sha256:0", "dob-api", "", "ghcr.io/owner/dob api"])
def test_an_image_must_be_named_without_a_tag(built, image):
    refused(tool("push", built, image), "is not an image name without a tag", code=64)
