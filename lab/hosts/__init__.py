"""Booted Debian hosts: machines, networks, and all that stands around the playbooks' hosts."""
