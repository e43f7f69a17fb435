"""Code that several areas of the project share."""

import pathlib

TOP = pathlib.Path(__file__).resolve().parents[1]
