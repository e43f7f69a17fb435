"""Clients of the service, their records, and the check of these."""
