"""However a run ends, it is told what is kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from soc_ft import distributed
from soc_ft.errors import RunError
from soc_ft.training.ending import ending


@pytest.mark.parametrize("several", [True, False])
def test_the_end_of_another_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    """Breaks if a killed rank costs the others a traceback, or a fault of a run of one process is
    taken for one; in either case MLflow must hear that the run failed."""
    monkeypatch.setattr(distributed, "_active", lambda: several)
    heard: list[str] = []
    parts: dict[str, Any] = {
        "trainer": SimpleNamespace(strategy=SimpleNamespace(launcher=None)),
        "logger": SimpleNamespace(end=heard.append),
        "checkpoints": SimpleNamespace(saved=7, folder=tmp_path),
    }
    lost = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    words = r"another process of the job has ended; optimizer step 7 is saved, .* run_dir="
    with (
        pytest.raises(RunError if several else RuntimeError, match=words if several else "gloo"),
        ending(folder=tmp_path, resumed=True, **parts),
    ):
        raise lost
    assert heard == ["failed"]
