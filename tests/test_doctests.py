"""The docstrings of the mathematics: their examples run; their sections are there, and in order (CONTRIBUTING.md)."""

import ast
import doctest
import importlib
import re

import pytest

from test_architecture import FILES, SRC, tree_of

FOLDERS = ("core", "families", "priors", "likelihoods", "inference", "e_steps", "m_steps", "nets", "api.py")
NO_PARTS = ("__init__", "named")
"""Files of these names have no parts of algorithms: `named` is a table."""
DOCUMENTED = [path for path in FILES if path.relative_to(SRC).parts[0] in FOLDERS and path.stem not in NO_PARTS]
NAMES = [str(path.relative_to(SRC)) for path in DOCUMENTED]
ORDER = ["Args", "Returns", "Raises", "Example", "Source"]
LEAST_EXAMPLES = 60
"""Functions, methods and classes with an example."""
MEMBER = re.compile(r"An? (`[A-Z]\w+`|E-step|behaviour)")
"""How the docstring of a function begins that has the arguments of its kind, which are described once, for the kind."""


every_documented_file = pytest.mark.parametrize("path", DOCUMENTED, ids=NAMES)


def examples(path):
    """The docstrings of a module that have examples. An example sees no names but those that it imports."""
    name = ".".join(("estep", *path.relative_to(SRC).with_suffix("").parts))
    found = doctest.DocTestFinder().find(importlib.import_module(name), name, globs={})
    return [test for test in found if test.examples]


@every_documented_file
def test_examples_run(path):
    runner = doctest.DocTestRunner()
    for test in examples(path):
        runner.run(test)
    assert runner.failures == 0


def test_there_are_examples():
    assert sum(len(examples(path)) for path in DOCUMENTED) >= LEAST_EXAMPLES


def documented(path):
    """The public functions, classes and methods of a file, each with the class that it is in, and its docstring."""
    tree = tree_of(path)
    for home in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
        for node in home.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                yield home, node, ast.get_docstring(node) or ""


def sections(text):
    return [line.removesuffix(":") for line in text.splitlines() if line.removesuffix(":") in ORDER and line[-1] == ":"]


@every_documented_file
def test_sections_are_in_order(path):
    for _, node, text in documented(path):
        assert sections(text) == sorted(set(sections(text)), key=ORDER.index), node.name


@every_documented_file
def test_functions_of_three_arguments_describe_them(path):
    """Methods are members of a slot: its contract describes their arguments, where they do not."""
    for home, node, text in documented(path):
        if isinstance(node, ast.ClassDef) or isinstance(home, ast.ClassDef):
            continue
        if "overload" in map(ast.unparse, node.decorator_list):  # the function itself has the words
            continue
        count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs)
        described = "Args" in sections(text) or MEMBER.match(text)
        assert count < 3 or described, node.name
