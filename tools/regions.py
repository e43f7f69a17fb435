"""The regions of regions.json: the one file that Terraform, the playbooks and all programs read."""

import json
import pathlib

REGIONS = json.loads((pathlib.Path(__file__).resolve().parents[1] / "regions.json").read_text())
# The cloud's name of each, by its letter.
NAMES = {letter: region["region"] for letter, region in REGIONS.items()}


def named(text):
    """A region by its letter, or by the cloud's name."""
    return NAMES.get(text, text)
