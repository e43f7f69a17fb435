"""The commands of the runbooks, each with the place where its page says that it runs."""

import pathlib
import re
import typing

FOLDER = pathlib.Path(__file__).parent
PAGES = {str(path.relative_to(FOLDER).with_suffix("")): path for path in sorted(FOLDER.rglob("*.md")) if path.stem != "README"}
# What may stand behind ```sh; docs/runbooks/README.md says what each means.
PLACES = ("primary", "replica", "database", "service", "monitor", "operator")
# A block that succeeds when the page's work is done; "host" is the host of the alert.
CHECKS = {f"{place} check": place for place in (*PLACES, "host")}
RUN = (*PLACES, "playbook")
MARKS = (*RUN, *CHECKS, "by-hand")
# What a command in a cell of a table begins with.
PROGRAMS = ("ansible-playbook", "etcdctl", "patronictl", "sudo", "systemctl")


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


class Row(typing.NamedTuple):
    """What a page has done about one thing that is seen."""

    shown: str
    do: str

    def commands(self):
        return [command for command in re.findall(r"`([^`]+)`", self.do) if command.split()[0] in PROGRAMS and " " in command]

    def links(self):
        """The pages to which a row of an alert's page leads."""
        links = re.findall(r"\]\(([^)#]+)\.md\)", self.do)
        return [link.removeprefix("../") if link.startswith("../") else f"alerts/{link}" for link in links]


def row(page, shown):
    """The one row of a page's table whose first cell contains a text."""
    rows = [Row(*cells) for cells in re.findall(r"^\| (.*?) \| (.*) \|$", PAGES[page].read_text(), re.M)]
    found = [row for row in rows if shown in row.shown]
    if len(found) != 1:
        raise LookupError(f"{page} has {len(found)} rows for '{shown}'")
    return found[0]
