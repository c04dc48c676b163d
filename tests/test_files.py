"""Files are replaced whole, and what goes wrong is said in a few words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from soc_ft.errors import WriteError
from soc_ft.files import reason, remove_drafts, replace_file, replacing


def test_a_full_disk_is_called_that(tmp_path: Path) -> None:
    """Breaks if a person has to know what error 28, or torch's position in a file, means."""
    (tmp_path / "results.json").write_text("old")

    def fill() -> None:
        with replacing(tmp_path / "results.json") as draft:
            draft.write_text("half")
            Path("/dev/full").write_text("more than nothing")

    with pytest.raises(WriteError, match=r"results\.json: cannot be written \(the disk is full\)"):
        fill()
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert (tmp_path / "results.json").read_text() == "old"


def test_the_cause_is_found_behind_a_library_s_own_error() -> None:
    """Breaks if `unexpected pos 576 vs 534` hides that the disk is full."""
    error = RuntimeError("unexpected pos 576 vs 534\nat inline_container.cc")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert reason(error) == "the disk is full"
    assert reason(RuntimeError("one\ntwo")) == "one"


def test_drafts_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    """Breaks if `.last.ckpt.<pid>`, as large as a checkpoint, stays for ever, or a file of the
    person's goes with it."""
    drafts = [".last.ckpt.123", ".step-000004.png.7", ".mlflow.db.12-journal"]
    others = ["last.ckpt", ".hidden", ".mlflow.db.lock", "notes.1", ".env.local"]
    for name in (*drafts, *others):
        (tmp_path / name).touch()
    remove_drafts(tmp_path, "last.ckpt")
    assert len(list(tmp_path.iterdir())) == len(drafts) + len(others) - 1
    remove_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others)
    remove_drafts(tmp_path / "nowhere")


def test_the_folder_is_synced_after_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a crash of the machine can undo that a file was replaced."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.partition(".")[0])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("replace"), replace(*names)))
    replace_file(tmp_path / "folder" / "file", b"content")
    assert done == ["", "replace", "folder"]  # of the draft, which is hidden, and of its folder
