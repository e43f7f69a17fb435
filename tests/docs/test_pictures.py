"""Every text of a picture stays inside its frame, in whatever font the reader has."""

import re
import xml.etree.ElementTree

import pytest

from conftest import TOP, tracked

PICTURES = tracked("docs/*.svg")
# The widest of the usual fonts, per letter, in shares of the font's size: regular, bold.
WIDTHS = 0.6, 0.68


def rules(picture):
    """The size, weight and anchor of each class of text."""
    style = next(element.text for element in picture.iter() if element.tag.endswith("style")).partition("@media")[0]
    return {name.strip().removeprefix("."): body for names, body in re.findall(r"([^{}]+)\{([^}]*)\}", style) for name in names.split(",")}


def extent(element, rules):
    """From where to where a text goes."""
    known = [rules["text"], *(rules.get(name, "") for name in element.get("class", "").split())]
    size = float([found[1] for body in known if (found := re.search(r"font(?:-size)?: (\d+)px", body))][-1])
    bold = any("600" in body for body in known)
    width = len(element.text) * size * WIDTHS[bold]
    anchors = [found[1] for body in known if (found := re.search(r"text-anchor: (\w+)", body))]
    anchor = element.get("text-anchor") or (anchors or ["start"])[-1]
    left = float(element.get("x")) - width * {"start": 0, "middle": 0.5, "end": 1}[anchor]
    return left, left + width


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: str(path.relative_to(TOP)))
def test_every_text_stays_inside_the_frame(path):
    picture = xml.etree.ElementTree.parse(path).getroot()
    _, _, width, height = map(float, picture.get("viewBox").split())
    known = rules(picture)
    texts = [element for element in picture.iter() if element.tag.endswith("text")]
    assert texts
    for element in texts:
        left, right = extent(element, known)
        assert left >= 0 and right <= width, element.text
        assert 0 < float(element.get("y")) <= height, element.text


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: str(path.relative_to(TOP)))
def test_a_picture_brings_its_own_ground_for_light_and_dark(path):
    text = path.read_text()
    assert 'class="ground"' in text
    assert all(".ground { fill:" in part for part in text.split("@media (prefers-color-scheme: dark)"))
