"""Measures the speed of the service, compared with limits and peers."""
