"""Which room of the project uses which, as the code says: imports, scripts that run or read a file, tasks of `./dev`."""

import functools
import re

from conftest import TOP, run

# The longest that a path begins with counts.
ROOMS = {
    "dev": "dev",
    ".github/workflows/ci.yml": "every change",
    ".github/": "workflows",
    "tools/": "tools",
    "src/": "src",
    "packaging/": "packaging",
    "ami/": "ami",
    "ansible/": "ansible",
    "terraform/": "terraform",
    "docs/": "docs",
    "rehearsal/": "rehearsal",
    "rehearsal/tests/": "rehearsal/tests",
    "lab/hosts/": "lab/hosts",
    "lab/clients/": "lab/clients",
    "lab/trials/": "lab/trials",
    "lab/reports/": "lab/reports",
    "lab/": "lab",
    "bench/": "bench",
    # The hostile suite and the fuzzer take parts of each other.
    "fuzz/": "tests",
    "packaging/tests/": "packaging/tests",
    "ami/tests/": "ami/tests",
    "terraform/tests/": "terraform/tests",
    "lab/tests/": "lab/tests",
    "tests/": "tests",
    # What runs the suites and looks at everything.
    "tests/run": "suites",
    "tests/lint": "suites",
    "tests/coverage": "suites",
}
TESTS = {"tests", "suites", "every change", *(room for room in ROOMS.values() if room.endswith("/tests"))}
PRODUCTION = {"workflows", "tools", "src", "packaging", "ami", "ansible", "terraform"}
# A command begins a line, or follows what may stand before one.
BEGINS = r"(?:^|[|&;({]|\$\(|\b(?:exec|then|do|else|check|counted|env)\b|!)\s*(?:[A-Z_]+=\S* )*"
PATH = r"(?:[\w.-]+/)+[\w.-]+"


@functools.cache
def files():
    return run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()


@functools.cache
def places():
    """Every file and folder."""
    return {*files(), *("/".join(path.split("/")[:depth]) for path in files() for depth in range(1, path.count("/") + 1))}


def room(path):
    """The room of a file or folder, or none."""
    found = [start for start in ROOMS if path == start or f"{path}/".startswith(start)]
    return ROOMS[max(found, key=len)] if found else None


@functools.cache
def scripts():
    """The script of each task of `./dev`."""
    tasks = re.findall(r"^    ([a-z| -]+)\) script=(\S+) ;;$", (TOP / "dev").read_text(), re.M)
    return {task: script.replace("$task", task) for names, script in tasks for task in names.split(" | ")}


def known(path, folder):
    """A path as the project lists it: written from the top, or from the folder of the file in which it stands."""
    parts = []
    for part in [*folder.split("/"), *path.split("/")] if path.startswith(".") else path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in (".", ""):
            parts.append(part)
    found = "/".join(parts)
    return {found} & places()


def of_python(text, is_test):
    # What a test only looks at is no part of it.
    if is_test:
        text = re.sub(r"\(TOP / [^()\n]+\)\.(?:read_text|read_bytes|glob)\(", "", text)
    for module, names in re.findall(r"^ *(?:from ([\w.]+) )?import ([\w, ]+)", text, re.M):
        for name in names.split(","):
            path = f"{module}.{name.split()[0]}".lstrip(".").replace(".", "/")
            # A name of a module is part of that.
            yield from (one for one in (f"{path}.py", f"{path.rpartition('/')[0]}.py", f"{path.rpartition('/')[0]}/__init__.py") if one in places())
    yield from (scripts()[task] for task in re.findall(r'(?:\bTOP / "dev"|\("\./dev"), "([a-z-]+)"', text) if task in scripts())
    yield from (f"{module.replace('.', '/')}.py" for module in re.findall(r'"((?:lab|ami|bench)(?:\.\w+)+)"', text))
    yield from (path for path in re.findall(rf'\bTOP / f?"({PATH}|\w+)"', text) if path in places() - {"dev"})
    yield from (path for path in re.findall(rf'\bparents\[[12]\] / "({PATH})"', text) if path in places())


def of_shell(text, folder):
    text = re.sub(r"<<-?'?(\w+)'?$.*?^\s*\1$", "", text, flags=re.M | re.S)
    text = re.sub(r"^\s*#.*$|\b(?:die|wrong|echo) \"[^\"]*\"", "", text, flags=re.M)
    yield from (scripts()[task] for task in re.findall(rf"{BEGINS}(?:\.\./)*(?:\./)?dev ([a-z-]+)", text, re.M) if task in scripts())
    for run_as, imported in re.findall(r"-m ((?:lab|ami|bench)(?:\.\w+)+)|from ((?:lab|tools)(?:\.\w+)*) import", text):
        yield from {f"{(run_as or imported).replace('.', '/')}{end}" for end in (".py", "")} & places()
    for path in re.findall(rf"(?<![\w'/.-])(?:\$here/|\$top/|\$PWD/)?({PATH})", text):
        yield from known(path, folder)
    if re.search(rf"{BEGINS}cargo (?!install)(?!.*--manifest-path)[a-z]+", text, re.M):
        yield "src"


def of_rust(text, folder):
    if re.search(r"\bdob_api::", text):
        yield "src"
    for path in re.findall(r'include_str!\("([^"]+)"\)|#\[path = "([^"]+)"\]', text):
        yield from known(f"./{path[0] or path[1]}", folder)


def of_workflow(text):
    return [scripts()[task] for task in re.findall(r"\./dev ([a-z-]+)", text) if task in scripts()]


def uses(path):
    """The files and folders that a file uses."""
    if path == "dev":
        return set(scripts().values()) | {"tools/lib.sh"}
    # The examples of this module's own tests use nothing.
    if path == "tests/docs/test_rooms.py" or not (TOP / path).is_file() or (TOP / path).stat().st_size > 500_000:
        return set()
    content = (TOP / path).read_bytes()
    text, folder = content.decode(errors="replace"), path.rpartition("/")[0]
    first = text.partition("\n")[0]
    if path.endswith(".py") or (first.startswith("#!") and "python" in first):
        return set(of_python(text, room(path) in TESTS))
    if path.endswith(".rs"):
        return set(of_rust(text, folder))
    if path.startswith(".github/workflows/"):
        return set(of_workflow(text))
    if path == "fuzz/Cargo.toml":
        return {"src"} if 'path = ".."' in text else set()
    return set(of_shell(text, folder)) if first.startswith("#!") or path.endswith(".sh") else set()


@functools.cache
def arrows():
    """Each room that uses another, with the files that say so."""
    found = {}
    for path in files():
        for used in uses(path):
            if (one := room(path)) and (other := room(used)) and one != other:
                found.setdefault((one, other), set()).add(f"{path} → {used}")
    return found


def reachable(pairs, start):
    """Every room to which arrows lead from a room."""
    found, before = {other for one, other in pairs if one == start}, 0
    while len(found) > before:
        before = len(found)
        found |= {other for one, other in pairs if one in found}
    return found


def drawn():
    """The arrows that a picture needs: without those from `dev` and to `tools`, which all have, and those that longer ways imply."""
    pairs = {(one, other) for one, other in arrows() if one != "dev" and other != "tools"}
    return {(one, other) for one, other in pairs if other not in reachable(pairs - {(one, other)}, one)}
