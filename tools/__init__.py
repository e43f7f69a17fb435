"""What the areas of the project share."""

import pathlib

TOP = pathlib.Path(__file__).resolve().parents[1]
