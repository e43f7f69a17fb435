"""Hosts on this machine and what is done to them. Its rooms import in one direction: hosts, clients, trials, reports, cli."""

import pathlib

TOP = pathlib.Path(__file__).resolve().parents[1]
