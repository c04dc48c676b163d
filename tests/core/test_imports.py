from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import torch
before = set(sys.modules)
import soc_ft.core
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_core_imports_torch_and_the_standard_library_only() -> None:
    """Breaks if Lightning, Hydra, MLflow, diffusers or anything else leaks into the mathematics."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert "soc_ft" in loaded
    assert loaded - {"soc_ft", "torch"} <= sys.stdlib_module_names
