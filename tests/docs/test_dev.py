"""`./dev` answers alike everywhere: help at once, wrong arguments in one sentence, and nothing done before they are known to be right."""

import os
import re
import shutil
import subprocess

import pytest

from checkout import Checkout
from conftest import TOP, run, tasks

TASKS = sorted(tasks())
USAGE = 64
WRONG = ("", "--nosuch", "nosuch")
# A word that may well be right: only the archive knows each package. So what ends this is that nobody may install it.
WORD = {"need": 1}
# Those that say on another system, too, what they are for; `run` builds with what is there.
ANYWHERE = {"clean", "docs", "github-check", "help", "infra", "run", "smoke"}
# Arguments that are right, for those that need some.
RIGHT = {
    "apt-repo": ["folder", "--key", "key"],
    "cluster": ["status"],
    "need": ["jq"],
    "play": ["site.yml"],
    "publish": ["home/dob-api_1.0.0_amd64.raw"],
    "roll-out": ["1.0.0"],
}
SECTIONS = {"cluster": r"^    ([a-z-]+)  ", "infra": r"^  ([a-z]+) +\w"}


@pytest.fixture(scope="module", params=["straight", "through a link from elsewhere", "on another system"])
def checkout(request):
    made = Checkout(TOP, "Darwin" if request.param == "on another system" else "Linux", request.param.startswith("through"))
    yield made
    made.remove()


@pytest.fixture(scope="module")
def linux():
    made = Checkout(TOP)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def darwin():
    made = Checkout(TOP, "Darwin")
    yield made
    made.remove()


def needs_an_argument(task):
    return re.search(rf"^  {task} [A-Z]", run("./dev", "help"), re.M) is not None


def is_refused(ended, code=USAGE):
    """One sentence on standard error, and nothing done."""
    assert (ended.code, ended.out, ended.did) == (code, "", []), ended
    assert ended.err.count("\n") == 1 and re.match(r"[\w./ -]+: .{10}", ended.err), ended.err


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("task", TASKS)
def test_help_is_there_at_once_and_does_nothing(checkout, task, flag):
    ended = checkout.dev(task, flag)
    assert (ended.code, ended.err, ended.did) == (0, "", []), ended
    assert re.match(rf"usage: \./dev {'TASK' if task == 'help' else task}\b|usage: ami/{task}\b", ended.out), ended.out


@pytest.mark.parametrize("argument", WRONG)
@pytest.mark.parametrize("task", TASKS)
def test_a_wrong_argument_is_refused_in_one_sentence(checkout, task, argument):
    is_refused(checkout.dev(task, argument), WORD.get(task, USAGE) if argument == "nosuch" else USAGE)


@pytest.mark.parametrize("task", list(filter(needs_an_argument, TASKS)))
def test_a_missing_argument_is_refused_in_one_sentence(checkout, task):
    is_refused(checkout.dev(task))


@pytest.mark.parametrize("arguments", [[], [""], ["nosuch"], ["--nosuch"]])
def test_a_wrong_task_is_refused_in_one_sentence(checkout, arguments):
    is_refused(checkout.dev(*arguments))


@pytest.mark.parametrize("task", SECTIONS)
def test_each_command_of_a_task_has_its_help(linux, task):
    commands = re.findall(SECTIONS[task], linux.dev(task, "--help").out, re.M)
    assert len(commands) > 2
    for command in commands:
        ended = linux.dev(task, command, "--help")
        assert (ended.code, ended.err, ended.did) == (0, "", []) and ended.out.startswith("usage: "), ended


@pytest.mark.parametrize(
    "arguments",
    [
        ["apt-repo", "folder"],
        ["apt-repo", "folder", "--key"],
        ["apt-repo", "folder", "--key", "key", "missing.deb"],
        ["bench", "--only", "nosuch"],
        ["bench", "--report", "missing"],
        ["build", "riscv64gc-unknown-linux-musl"],
        ["build", "x86_64-unknown-linux-musl", "nosuch"],
        ["clean", "--dry-run", "nosuch"],
        ["cluster", "faults", "--only", "nosuch"],
        ["cluster", "heal"],
        ["cluster", "kill", "nosuch"],
        ["cluster", "logs", "--region", "nosuch"],
        ["cluster", "partition", "nosuch"],
        ["cluster", "play", "nosuch.yml"],
        ["cluster", "status", "nosuch"],
        ["container", "--amd64", "missing"],
        ["coverage", "--", "nosuch"],
        ["deb", "--arch", "nosuch"],
        ["deb", "--binary", "missing"],
        ["deb", "--out"],
        ["fuzz", "0"],
        ["fuzz", "1", "2"],
        ["image", "--deb", "missing"],
        ["image", "--sources", "a", "--deb", "b"],
        ["infra", "plan"],
        ["infra", "plan", "nosuch"],
        ["infra", "nosuch", "primary"],
        ["infra", "protect", "nosuch"],
        ["infra", "secrets"],
        ["infra", "secrets", "--ca", "missing"],
        ["need", "jq", "--nosuch"],
        ["play", "README.md"],
        ["publish", "missing.raw"],
        ["publish", "dob-api_1.0.0_amd64.raw"],
        ["roll-out", "1.0.0", "--follow"],
        ["run", "--listen=127.0.0.1:0", "--nosuch"],
        ["run", "--listen", "127.0.0.1:0", "nosuch"],
        ["smoke", "dob.example.com"],
        ["smoke", "https://dob.example.com", "nosuch"],
        ["soak", "--minutes"],
        ["soak", "--minutes", "0"],
        ["soak", "1"],
        ["test", "docs", "nosuch"],
    ],
    ids=" ".join,
)
def test_a_wrong_argument_further_on_is_refused_in_one_sentence(linux, arguments):
    is_refused(linux.dev(*arguments))


@pytest.mark.parametrize("task", [task for task in TASKS if task not in ANYWHERE])
def test_another_system_than_linux_is_named_in_one_sentence(darwin, task):
    (darwin.home / "dob-api_1.0.0_amd64.raw").touch()
    darwin.settle()
    arguments = [word.replace("home/", f"{darwin.home}/") for word in RIGHT.get(task, [])]
    assert bool(arguments) == needs_an_argument(task)
    ended = darwin.dev(task, *arguments)
    is_refused(ended, 1)
    assert "needs Linux, and this is Darwin" in ended.err


def test_on_another_system_the_service_is_built_by_cargo_alone(darwin):
    ended = darwin.dev("run", "--listen", "127.0.0.1:0")
    assert "this is Darwin, not Linux" in ended.err
    assert ended.did == ["cargo run --locked --release -- --listen 127.0.0.1:0"]


def test_what_fails_exits_with_1(linux):
    ended = linux.dev("build")
    assert ended.code == 1 and ended.did[0].startswith(("rustup", "cargo", "rustc")), ended
    ended = linux.dev("smoke", "https://dob.example.com")
    assert ended.code == 1 and ended.did[0].startswith("curl"), ended


@pytest.fixture
def made(linux):
    """What a build and a suite leave behind, and what somebody else did."""
    for file in (
        "top/target/CACHEDIR.TAG",
        "top/target/debug/dob-api",
        "top/fuzz/target/x",
        "top/terraform/primary/.terraform/x",
        "home/.cache/dob-api/tools/x",
        "top/fuzz/artifacts/x",
        "home/.cache/other/x",
        "home/other/x",
    ):
        path = linux.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(2**20))
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "65534:65534", linux.folder], check=True)
    linux.settle()
    yield linux
    for file in ("top/target", "top/fuzz/target", "top/fuzz/artifacts", "home/.cache", "home/other"):
        shutil.rmtree(linux.folder / file, ignore_errors=True)
    linux.settle()


def names(made, changed):
    return [path.removeprefix(f"{made.folder}/") for path in changed]


def test_clean_removes_what_was_made_and_says_how_much(made):
    wished = made.dev("clean", "--dry-run")
    assert (wished.code, wished.did) == (0, []) and "this would free 5 MB" in wished.out, wished
    ended = made.dev("clean")
    assert ended.code == 0 and "freed 5 MB" in ended.out and "kept: " in ended.out, ended
    gone = names(made, ended.did)
    assert gone == [
        "home/.cache/dob-api/tools/x",
        "top/fuzz/target/x",
        "top/target/CACHEDIR.TAG",
        "top/target/debug/dob-api",
        "top/terraform/primary/.terraform/x",
    ]
    assert "freed 0 MB" in made.dev("clean").out


def test_clean_leaves_what_a_process_uses(made):
    program = made.home / ".cache/dob-api/tools/x"
    shutil.copy(shutil.which("sleep"), program)
    made.settle()
    with subprocess.Popen([program, "infinity"]) as process:
        ended = made.dev("clean")
        process.kill()
    assert f"leaving {made.home}/.cache/dob-api: process {process.pid} uses it" in ended.out
    assert program.exists() and "freed 4 MB" in ended.out


def test_clean_leaves_a_named_folder_that_cargo_did_not_make(made):
    ended = made.dev("clean", CARGO_TARGET_DIR=made.home / "other")
    assert f"leaving {made.home}/other: cargo did not make it" in ended.out
    assert (made.home / "other/x").exists() and (made.top / "target/CACHEDIR.TAG").exists()
    (made.home / "other/.rustc_info.json").touch()
    made.settle()
    assert f"removing {made.home}/other: 1 MB" in made.dev("clean", CARGO_TARGET_DIR=made.home / "other").out
