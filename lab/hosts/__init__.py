"""Booted Debian hosts: machines, networks, and the stand-ins for everything around them."""
