"""The commands of the runbooks, each with the place where its page says that it runs."""

import pathlib
import re
import typing

TOP = pathlib.Path(__file__).resolve().parents[1]
FOLDER = TOP / "docs/runbooks"
PAGES = {str(path.relative_to(FOLDER).with_suffix("")): path for path in sorted(FOLDER.rglob("*.md")) if path.stem != "README"}
# What may stand behind ```sh; docs/runbooks/README.md says what each means.
RUN = ("primary", "replica", "database", "service", "monitor", "operator", "playbook")
MARKS = (*RUN, "by-hand")


class Block(typing.NamedTuple):
    """A fenced block of commands."""

    page: str
    mark: str
    commands: str


def blocks():
    """Every block of every page."""
    for page, path in PAGES.items():
        for mark, commands in re.findall(r"^```sh *([^\n]*)\n(.*?)^```$", path.read_text(), re.M | re.S):
            yield Block(page, mark, commands)
