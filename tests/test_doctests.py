"""The examples in docstrings run, and what a docstring must have is there."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import estep
from estep.core import slots

PACKAGES = ("core", "families", "priors", "likelihoods", "inference", "e_steps", "m_steps", "nets", "api")


def modules():
    names = [module.name for module in pkgutil.walk_packages(estep.__path__, "estep.")]
    return [name for name in names if name.split(".")[1] in PACKAGES]


def examples(name):
    """The docstrings of a module that have examples. They see no names but those that they import."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(importlib.import_module(name), name, globs={}) if test.examples]


@pytest.mark.parametrize("name", modules())
def test_examples(name):
    runner = doctest.DocTestRunner()
    for test in examples(name):
        runner.run(test)
    assert runner.failures == 0
