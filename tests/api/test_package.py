"""The package as a script imports it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import soc_ft
from soc_ft.evaluation.folders import BASE

EXAMPLE = Path(__file__).parents[2] / "examples" / "fine_tune_on_a_function.py"


def test_importing_the_package_imports_nothing_else() -> None:
    """Breaks when the name of the package costs seconds."""
    script = "import sys; import soc_ft; dir(soc_ft); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "soc_ft" in loaded
    assert not loaded & {"torch", "hydra", "omegaconf", "pydantic", "numpy", "diffusers"}


def test_the_api_is_where_it_says() -> None:
    """Breaks when a name is offered that is not there, or the other way round."""
    assert set(soc_ft.__all__) <= set(dir(soc_ft))
    for name in soc_ft.__all__:
        assert getattr(soc_ft, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'fine_tuned'"):
        soc_ft.fine_tuned  # noqa: B018


def test_the_commands_do_not_hide_the_functions() -> None:
    """Breaks when importing the command of a name makes the function of that name a module."""
    for name in ("sample", "evaluate"):
        command = importlib.import_module(f"soc_ft.{name}")
        assert callable(getattr(soc_ft, name))
        assert getattr(soc_ft, name) is not command


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path) -> None:
    """Breaks when what users start from no longer fits the API, or makes no picture redder."""
    done = subprocess.run(
        [sys.executable, EXAMPLE],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "red" / "pictures.png").is_file()
    difference = done.stdout.splitlines()[-1]
    assert difference.strip().startswith(f"difference to the {BASE}")
    assert float(difference.split()[-3]) > 0
