"""Clients of the service, what they recorded, and whether it can be."""
