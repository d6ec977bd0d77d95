"""Reports the compilation of programs."""

from __future__ import annotations

import time
from collections.abc import Callable


class Compiling:
    """Reports the first call of a program and how long it took."""

    def __init__(self, what: str, compiled: set[str], note: Callable[[str], None]) -> None:
        """Prepare a call.

        Args:
            what: the program, in words.
            compiled: the programs that were called before. This one is added.
            note: called with lines for the user.
        """
        self.what, self.compiled, self.note = what, compiled, note

    def __enter__(self) -> None:
        self.first = self.what not in self.compiled
        if self.first:
            self.compiled.add(self.what)
            self.note(f"compiling {self.what} ...")
            self.start = time.perf_counter()

    def __exit__(self, *unused: object) -> None:
        if self.first:
            self.note(f"compiled {self.what} in {time.perf_counter() - self.start:.1f} s")
