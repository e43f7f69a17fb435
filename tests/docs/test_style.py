"""Markdown files are easy to read: no puzzling words, no long sentences, no paragraphs in tables, no long pages. style.toml has the rules."""

import re
import subprocess
import tomllib

import pytest

from conftest import TOP, tracked

RULES = tomllib.loads((TOP / "tests/docs/style.toml").read_text())
PAGES = [page for page in (str(path.relative_to(TOP)) for path in tracked("*.md")) if page != "CHANGELOG.md"]
CONVERTED = [page for page in PAGES if page not in RULES["not_yet"]]


def prose(text):
    """A page's text without blocks of code, targets of links, pictures and signs of emphasis; code becomes one word."""
    text = re.sub(r"^( *)```.*?^\1```$|^    .*$|<!--.*?-->", "", text, flags=re.M | re.S)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
    text = re.sub(r"`[^`]+`", "CODE", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\*+", "", text)


def cells(text):
    """Every cell of every table."""
    for line in prose(text).splitlines():
        if line.startswith("|") and not set(line) <= set("|-: "):
            yield from (cell.strip() for cell in line.strip("|").split("|"))


def sentences(text):
    """Every sentence outside tables; a heading and an item of a list end one."""
    lines = [line for line in prose(text).splitlines() if not line.startswith("|")]
    for block in re.split(r"\n\s*\n|\n(?=#)|\n(?=\s*(?:[-*]|\d+\.) )", "\n".join(lines)):
        for sentence in re.split(r"(?<=[.!?:])[)\"]?\s+", block):
            yield re.sub(r"^\s*(?:[-#]+|\d+\.)\s+", "", " ".join(sentence.split()))


def words(sentence):
    return [word for word in sentence.split() if re.search(r"\w", word)]


def puzzling(text):
    """Each banned word that a text has, and what to write instead. What programs say is quoted as it is."""
    text = " ".join(re.sub(r'"[^"]*"', "", prose(text)).split())
    for banned, instead in RULES["words"].items():
        for match in re.finditer(rf"\b(?:{banned})\b", text, re.I):
            yield f"'{match[0]}' in '{text[max(0, match.start() - 30) : match.end() + 30]}': write {instead}"


@pytest.mark.parametrize("page", CONVERTED)
def test_a_page_is_easy_to_read(page):
    text, limits = (TOP / page).read_text(), RULES["limits"]
    found = list(puzzling(text))
    found += [f"a sentence of {len(words(one))} words: {one}" for one in sentences(text) if len(words(one)) > limits["sentence"]]
    found += [f"a cell of {len(words(one))} words: {one}" for one in cells(text) if len(words(one)) > limits["cell"]]
    assert found == []


@pytest.mark.parametrize("page", [page for page in CONVERTED if page not in RULES["references"]["files"]])
def test_a_page_is_short(page):
    limit = RULES["pages"].get(page, RULES["limits"]["page"])
    assert len((TOP / page).read_text().splitlines()) <= limit


# Besides the documents, what users read of the service, of `./dev`, of alerts and of Terraform's settings.
TEXTS = [
    "CHANGELOG.md",
    "dev",
    "packaging/dob-api.8",
    "src/config/settings.txt",
    *sorted(str(path.relative_to(TOP)) for path in tracked("ansible/roles/monitoring/files/rules/*")),
    *sorted(str(path.relative_to(TOP)) for path in tracked("terraform/*variables.tf") + tracked("terraform/*outputs.tf")),
]


@pytest.mark.parametrize("path", TEXTS)
def test_a_text_for_users_has_no_puzzling_words(path):
    text = (TOP / path).read_text()
    assert [
        f"'{match[0]}': write {instead}" for banned, instead in RULES["words"].items() for match in re.finditer(rf"\b(?:{banned})\b", text, re.I)
    ] == []


def test_no_word_is_misspelt():
    known = ",".join(RULES["spelling"]["known"])
    ran = subprocess.run(["codespell", "--ignore-words-list", known, *PAGES, *TEXTS], cwd=TOP, capture_output=True, text=True, check=False)
    assert (ran.stdout + ran.stderr, ran.returncode) == ("", 0)


def test_the_rules_name_files_that_exist():
    assert {*RULES["not_yet"], *RULES["pages"], *RULES["references"]["files"]} - {*PAGES} == set()


def test_the_reader_finds_what_a_person_would():
    text = '# T\n\nThe host `a` says of [mends](mend.md) "goes on". It\nis well:\n\n| one | two words |\n|---|---|\n\n'
    text += "- An item. 1.5 s\n\n```sh\nmend\n```\n"
    assert [found.partition("'")[2].partition("'")[0] for found in puzzling(text)] == ["mends", "says of"]
    assert list(cells(text)) == ["one", "two words"]
    assert [one for one in sentences(text) if one] == ["T", 'The host CODE says of mends "goes on".', "It is well:", "An item.", "1.5 s"]
