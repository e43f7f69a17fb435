"""README.md as one who follows it reads it: what to type, and what should come of it."""

import pathlib
import re

TOP = pathlib.Path(__file__).resolve().parents[2]
# How each block that is followed begins.
PREPARE, RUN, ASK = "sudo apt update\nsudo apt install curl", "./dev run\n", "curl -X PUT localhost:8080/hello/ada"
INSTALL, CLUSTER = "sudo curl -fsSLo /etc/apt/sources.list.d/", "./dev cluster up\n"
REPOSITORY = "https://apt.example.org"


def block(beginning, language="sh"):
    """The one block that begins so."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", (TOP / "README.md").read_text(), re.M | re.S)
    (found,) = (text for text in blocks if text.startswith(beginning))
    return found


def greeting():
    """What a greeting looks like, on any day."""
    shown = block('{"message"', "json").strip()
    return re.sub(r"\d+", r"\\d+", re.escape(shown))
