"""What is on the disk: run folders and their files."""

try:
    import fcntl as _fcntl  # noqa: F401
except ImportError as error:
    raise ImportError("estep needs Linux or macOS, because it locks the files of a run with fcntl.") from error
