"""What is said of an exception in somebody's own code: the line of that code from which it came."""

import json
import types

import jax
import jax.numpy as jnp
import pytest

from estep.errors import describe_raised


def module(name, path, text):
    """A module from a text, as if it were in a file."""
    made = types.ModuleType(name)
    exec(compile(text, path, "exec"), made.__dict__)
    return made


CALLS = "def call(of):\n    return of()\n"
MINE = module("mine", "/home/me/mine.py", "\n" + CALLS)
INSTALLED = module("their", "/env/lib/site-packages/their/code.py", "\n\n" + CALLS)
TRACED = module("traced", "/home/me/traced.py", "def branch(x):\n    return 1 if x > 0 else 2\n")


def fail():
    raise ValueError("no port")


def told(of):
    try:
        of()
    except Exception as error:
        return describe_raised(error)


@pytest.mark.parametrize(
    ("of", "where"),
    [
        (lambda: MINE.call(lambda: json.loads("{")), "mine.py, line 3"),  # not a line of the standard library
        (lambda: MINE.call(lambda: INSTALLED.call(lambda: json.loads("{"))), "mine.py, line 3"),
        (lambda: jax.eval_shape(TRACED.branch, jnp.ones(())), "traced.py, line 2"),
    ],
)
def test_the_line_of_own_code_is_named(of, where, monkeypatch):
    monkeypatch.setitem(told.__globals__, "__name__", "estep.tests")  # the lines here are those of the library
    assert told(of).endswith(f" ({where})")


def test_an_installed_package_is_named_where_there_is_no_other_code(monkeypatch):
    monkeypatch.setitem(told.__globals__, "__name__", "estep.tests")
    assert told(lambda: INSTALLED.call(fail)) == "ValueError: no port (code.py, line 4)"


def test_the_library_names_no_line_of_its_own(monkeypatch):
    monkeypatch.setitem(told.__globals__, "__name__", "estep.tests")
    assert told(fail) == "ValueError: no port"
    assert told(lambda: json.loads("{")).endswith("(char 1)")
