from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from soc_ft import core

EVERYTHING = """
import sys
import torch
before = set(sys.modules)
import importlib, pkgutil
import soc_ft.core
for module in pkgutil.walk_packages(soc_ft.core.__path__, "soc_ft.core."):
    importlib.import_module(module.name)
    print(module.name)
for name in soc_ft.core.__all__:
    getattr(soc_ft.core, name)
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""

BEFORE_TORCH = """
import sys
import soc_ft.core
from soc_ft import core
assert "torch" not in sys.modules, "importing the core imports torch"
assert not [name for name in sys.modules if name.startswith("soc_ft.core.")]
core.QuantileMask(quantile=0.5)
assert "torch" not in sys.modules, "making a mask imports torch"
assert core.Process
assert "torch" in sys.modules
"""


def python(script: str) -> list[str]:
    """The words that a script prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_core_imports_torch_and_the_standard_library_only() -> None:
    """Breaks if Lightning, Hydra, MLflow, diffusers or anything else leaks into the mathematics."""
    loaded = python(EVERYTHING)
    modules = {name for name in loaded if name.startswith("soc_ft.core.")}
    assert modules == {f"soc_ft.core.{path.stem}" for path in files() if path.stem != "__init__"}
    assert "soc_ft" in loaded
    assert set(loaded) - modules - {"soc_ft", "torch"} <= sys.stdlib_module_names


def test_core_does_not_import_torch_before_it_is_used() -> None:
    """Breaks if checking a configuration, which names methods, waits for torch."""
    python(BEFORE_TORCH)


def files() -> list[Path]:
    return sorted(Path(core.__file__).parent.glob("*.py"))


def test_every_public_name_resolves_to_what_its_module_defines() -> None:
    """Breaks if a name is renamed or moved in its module and not in the table."""
    for module, names in core._MODULES.items():
        for name in names:
            assert getattr(core, name) is getattr(
                importlib.import_module(f"soc_ft.core.{module}"), name
            )


def test_public_names_are_those_of_the_table() -> None:
    """Breaks if a name is importable but undocumented, listed twice, or listed and missing."""
    names = [name for names in core._MODULES.values() for name in names]
    assert sorted(names) == sorted(set(names)) == sorted(core.__all__)
    assert set(core._MODULES) == {path.stem for path in files()} - {"__init__"}


def test_type_checkers_see_the_names_of_the_table() -> None:
    """Breaks if what a type checker believes of the package is not what a program finds."""
    tree = ast.parse(Path(core.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        node.module: tuple(alias.name for alias in node.names)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }
    assert imported == {f"soc_ft.core.{module}": names for module, names in core._MODULES.items()}


def test_no_public_name_is_hidden_by_a_module() -> None:
    """Breaks if importing a file of the core replaces a function of the same name by the file."""
    assert not set(core.__all__) & set(core._MODULES)


def test_unknown_names_are_refused() -> None:
    """Breaks if a misspelt name fails with something else than an AttributeError."""
    with pytest.raises(AttributeError, match=r"'soc_ft\.core' has no attribute 'path_noise'"):
        _ = core.path_noise  # type: ignore[attr-defined]
    assert not hasattr(core, "Schedule")
