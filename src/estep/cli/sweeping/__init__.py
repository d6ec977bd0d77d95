"""The commands that are about many runs."""
