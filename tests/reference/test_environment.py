"""When the environment of the official packages is built anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reference import environment


def test_it_is_built_from_the_extra_and_again_when_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a half-built or an outdated environment is taken for a good one."""
    monkeypatch.setenv("SOC_FT_REFERENCE", str(tmp_path))
    torch = environment.packages() / "torch"
    torch.mkdir(parents=True)
    assert not environment.is_built()
    stamp = tmp_path / environment.STAMP
    stamp.write_text("\n".join(environment.requirements()) + "\n")
    assert environment.is_built()
    torch.rmdir()
    torch.symlink_to(tmp_path / "removed")
    assert not environment.is_built()
    torch.unlink()
    torch.mkdir()
    stamp.write_text("image-reward==1.4\n")
    assert not environment.is_built()


def test_the_requirements_are_pinned() -> None:
    """Breaks when a new release of an official package could change what is compared."""
    requirements = environment.requirements()
    assert all("==" in requirement for requirement in requirements)
    assert {"image-reward", "hpsv2"} <= {text.partition("==")[0] for text in requirements}
