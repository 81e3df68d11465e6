"""The source files as the house tests see them: which there are, and what each imports."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["mypy"]["packages"]
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))


def name_of(path: Path) -> str:
    """The path from the repository's root."""
    return path.relative_to(ROOT).as_posix()


def dotted(path: Path) -> str:
    """The name by which a file is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text())


@cache
def _names() -> dict[str, Path]:
    """The files of the packages by the names by which they are imported."""
    return {dotted(path): path for path in MODULES}


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports anywhere: inside functions too, and for types only."""
    names = _names()
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import"
            assert node.module
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & names.keys() or {node.module}
    return frozenset(found)


@cache
def arrows() -> dict[str, frozenset[str]]:
    """Every file of the packages, and the files of them that it imports, by their dotted names."""
    names = _names()
    return {name: frozenset((imports(path) & names.keys()) - {name}) for name, path in names.items()}


def circles(graph: dict[str, frozenset[str]]) -> list[list[str]]:
    """Every set of two or more names of which each leads to each other."""
    names = list(graph)
    places = {name: place for place, name in enumerate(names)}
    pairs = [(places[name], places[other]) for name, others in graph.items() for other in others]
    starts, ends = zip(*pairs, strict=True) if pairs else ((), ())
    matrix = csr_array((np.ones(len(pairs), bool), (starts, ends)), shape=(len(names), len(names)))
    found: dict[int, list[str]] = {}
    for name, label in zip(names, connected_components(matrix, connection="strong")[1], strict=True):
        found.setdefault(int(label), []).append(name)
    return sorted(sorted(circle) for circle in found.values() if len(circle) > 1)
