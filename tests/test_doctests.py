"""The examples in the docstrings of the packages give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from tests.house.source import MODULES, dotted

# Read, not imported, to find them: a module without an example is not loaded for it.
NAMES = [dotted(path) for path in MODULES if ">>> " in path.read_text()]


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_module_hold(name):
    module = importlib.import_module(name)
    failed, tried = doctest.testmod(module)
    assert not failed
    # None stands where doctest does not look, as in a cached property.
    assert tried == Path(module.__file__).read_text().count(">>> ")


def test_there_are_examples():
    assert len(NAMES) >= 8
