"""`python -m estep` is the command line."""

from estep.cli.main import entry

if __name__ == "__main__":
    entry()
