"""Copies of a run's numbers in services of others."""
