"""Files of weights that are cut, damaged or something else are told from whole ones by a glance."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from soc_ft.errors import ConfigError
from soc_ft.integrity import check_whole, tensor_names

TENSORS = {"a": torch.arange(600.0), "b": torch.zeros(3, 2)}


def saved(file: Path) -> Path:
    if file.suffix == ".safetensors":
        save_file(TENSORS, file, metadata={"format": "pt"})
    else:
        torch.save(TENSORS, file, _use_new_zipfile_serialization=file.stem != "old")
    return file


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin", "x.ckpt", "old.pt", "old.pth"])
def test_whole_files_pass(name: str, tmp_path: Path) -> None:
    """Breaks if a file that the libraries read is refused, of an old version of PyTorch too."""
    file = saved(tmp_path / name)
    check_whole(file)
    if file.suffix == ".safetensors":
        assert tensor_names(file) == ["a", "b"]


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin"])
@pytest.mark.parametrize("kept", [0, 5, 40, 900, -1])
def test_a_file_that_was_cut_anywhere_is_damaged(name: str, kept: int, tmp_path: Path) -> None:
    """Breaks if half a download is only met after the libraries are imported, or in their words."""
    file = saved(tmp_path / name)
    content = file.read_bytes()[:kept]
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{file} is cut off or damaged") as caught:
        check_whole(file)
    assert "anew" in str(caught.value)


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin", "x.ckpt"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>404: not found</html>", "cut off or damaged, or no"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"PK\x03\x04 and so on", "cut off or damaged, or no"),
        (b"\x08" + bytes(7) + b"[1, 2, 3]", "cut off or damaged, or no"),
        (b"\x09" + bytes(7) + b'{"a": {}}', "cut off or damaged, or no"),
    ],
)
def test_a_file_of_something_else_is_named(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    """Breaks if an error page or a pointer to the weights is taken for them."""
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        check_whole(file)


def test_an_archive_of_other_files_holds_no_weights(tmp_path: Path) -> None:
    """Breaks if any zip passes for a checkpoint."""
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ConfigError, match="or no checkpoint of PyTorch"):
        check_whole(tmp_path / "x.bin")


def test_files_of_other_kinds_are_left_alone(tmp_path: Path) -> None:
    """Breaks if a vocabulary is taken for damaged weights."""
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    check_whole(tmp_path / "vocab.txt")
