"""Running commands of the command line in this process."""

from __future__ import annotations

import io
import json
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

import pytest

from estep.cli.main import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        """The JSON object that ends stdout."""
        return json.loads(self.out.splitlines()[-1], parse_constant=lambda text: pytest.fail(text))


def command(*argv: str) -> Ended:
    """Run a command in this process, with stdout and stderr in files, as a shell would."""
    saved = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            with redirect_stdout(_Over(1)), redirect_stderr(_Over(2)):
                code = main(argv)
        finally:
            for descriptor, number in zip(saved, (1, 2), strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return Ended(code, *texts)


class _Over(io.TextIOBase):
    """Text written straight to a descriptor, wherever that leads at the time."""

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, text: str) -> int:
        os.write(self._number, text.encode(errors="backslashreplace"))
        return len(text)
