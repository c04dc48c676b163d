"""The floors of the package: imports point down, lazy ones included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import soc_ft

PACKAGE = Path(soc_ft.__file__).parent

FLOORS = (
    {"errors"},
    {"files", "hub", "integrity", "layout", "options", "processes"},
    {"checking", "instantiation", "plain_yaml"},
    {"core"},
    {"distributed", "profiling"},
    {"data", "world"},
    {"rewards", "metrics"},
    {"models"},
    {"methods"},
    {"feedback"},
    {"config"},
    {"records"},
    {"tracking", "plotting"},
    {"evaluation"},
    {"training"},
    {"sweeps"},
    {"reporting"},
    {"api"},
    {"commands"},
    {"__main__", "bench", "evaluate", "report", "sample", "weights"},
)
"""Units of the package from the bottom up. Units of one floor do not know each other."""

LEVEL = {unit: level for level, units in enumerate(FLOORS) for unit in units}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(path: Path) -> Iterator[str]:
    """Dotted names of the package that a file imports anywhere, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}: a relative import")


def test_every_unit_has_a_floor() -> None:
    """Breaks when something new stands at the top of the package without a place in the order."""
    assert {unit_of(path) for path in FILES} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    """Breaks when a file imports from its own floor's neighbour or from above, even lazily."""
    own = unit_of(path)
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] != PACKAGE.name or len(parts) == 1 or parts[1] in (own, "__version__"):
            continue
        assert parts[1] in LEVEL, f"{module} is not a unit of the package"
        assert LEVEL[parts[1]] < LEVEL[own], f"{own} imports {module}"


def test_no_two_files_of_a_unit_import_each_other() -> None:
    """Breaks when a circle forms among the files of a folder."""
    names = {
        path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in FILES
    }
    graph = {
        names[path]: {
            name
            for module in imported_modules(path)
            for name in (module, module.rpartition(".")[0])
            if name in names.values()
        }
        for path in FILES
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())
