"""Weights on disk are whole, plain, and named when they are not."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from soc_ft.errors import ConfigError, RunError
from soc_ft.models.weights import load_weights, naming_weights, replacing_weights, save_weights
from tests.models.small import same

WEIGHTS = {
    "conv": torch.arange(48.0).reshape(2, 2, 3, 4).to(memory_format=torch.channels_last),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "needs gradient": torch.ones(2, requires_grad=True),
}


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    """Breaks if a layout, a type or a gradient gets in the way, or a folder must be there."""
    path = tmp_path / "new" / "kept.safetensors"
    save_weights(WEIGHTS, path)
    loaded = load_weights(path)
    assert same(loaded, WEIGHTS)
    assert {name: t.dtype for name, t in loaded.items()} == {n: t.dtype for n, t in WEIGHTS.items()}
    assert same(load_file(path), loaded)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_weights_of_a_checkpoint(tmp_path: Path) -> None:
    """Breaks if a checkpoint to resume from cannot serve as weights."""
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "last.ckpt")
    assert same(load_weights(tmp_path / "last.ckpt"), {"a": torch.ones(2)})


def test_weights_of_a_gpu_are_read_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a checkpoint of a machine with a GPU cannot be read elsewhere, or fills a GPU."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "last.ckpt")
    assert load_weights(tmp_path / "last.ckpt")["a"].device == torch.device("cpu")


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_no_code_is_run(tmp_path: Path) -> None:
    """Breaks if reading someone's weights runs what they put into the file."""
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "more": Code(tmp_path / "made")}, path)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        load_weights(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["kept.safetensors", "last.ckpt"])
@pytest.mark.parametrize("damage", ["absent", "garbage", "truncated", "other content"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, damage: str) -> None:
    """Breaks if a damaged or absent file ends in a traceback of someone else's."""
    path = tmp_path / name
    if name == "last.ckpt":
        torch.save({"state_dict": WEIGHTS}, path)
    else:
        save_weights(WEIGHTS, path)
    content = path.read_bytes()
    if damage == "absent":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"nothing")
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif name == "last.ckpt":
        torch.save({"epoch": 3}, path)
    else:
        path.write_bytes((8).to_bytes(8, "little") + b"[1,2,3] ")
    with pytest.raises(ConfigError, match=f"{re.escape(str(path))}: is not a checkpoint") as error:
        load_weights(path)
    assert "\n" not in str(error.value)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """Breaks if weights are overwritten in place, or half a file is left beside them."""
    path = tmp_path / "best.safetensors"
    save_weights(WEIGHTS, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"cannot be saved .* previous best\.safetensors is"):
            save_weights({"large": torch.ones(1000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert same(load_weights(path), WEIGHTS)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_weights_are_on_disk_before_they_take_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a crash of the machine can leave an empty file under the name of the old one."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("replace"), replace(*names)))
    save_weights(WEIGHTS, tmp_path / "kept.safetensors")
    assert done == ["fsync", "replace", "fsync"]  # the last one is the folder's


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    """Breaks if cleaning up hides why it failed."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "kept.safetensors"
    with pytest.raises(RunError, match=f"{re.escape(str(path))}: cannot be saved") as error:
        save_weights(WEIGHTS, path)
    assert "intact" not in str(error.value)


def test_a_draft_is_beside_its_place_and_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a draft is on another disk, is taken for weights, or two processes share one."""
    drafts = []
    for process in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        with replacing_weights(tmp_path / "best.safetensors") as draft:
            draft.touch()
        drafts.append(draft)
    assert {draft.parent for draft in drafts} == {tmp_path}
    assert not {draft.suffix for draft in drafts} & {".safetensors", ".ckpt"}
    assert drafts[0] != drafts[1]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    """Breaks if Ctrl-C is answered as a failure of the disk, or leaves its draft."""

    def interrupted() -> None:
        with replacing_weights(tmp_path / "last.ckpt") as draft:
            draft.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_an_interrupted_read_is_no_damage(tmp_path: Path) -> None:
    """Breaks if Ctrl-C while reading says that the file is broken."""
    with pytest.raises(KeyboardInterrupt), naming_weights(tmp_path / "last.ckpt"):
        raise KeyboardInterrupt
