"""What can be checked of a value before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from soc_ft.checking import check_folder
from soc_ft.errors import ConfigError


def test_a_folder_without_permission_is_told_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if pictures are sampled for an hour before somebody learns where they cannot go."""
    check_folder(str(tmp_path / "new"), "output")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigError, match=rf"output=.*/new: {tmp_path} cannot be written to"):
        check_folder(str(tmp_path / "new"), "output")
