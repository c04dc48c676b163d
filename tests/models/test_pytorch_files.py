"""Files that PyTorch wrote are read if they hold weights alone, and else refused in one line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from soc_ft.errors import ConfigError
from soc_ft.models.completeness import SINGLE_FILE_PREFIXES
from soc_ft.models.pipelines import load_pipeline
from soc_ft.models.random_weights import random_pipeline
from tests.models.original_layout import original_layout
from tests.models.small import PARTS, assert_same_weights


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_file_of_pytorch_without_a_part(tmp_path: Path, part: str) -> None:
    """Breaks if what a .ckpt lacks is said in the words and code of diffusers."""
    file = tmp_path / "half.ckpt"
    prefix = SINGLE_FILE_PREFIXES[part]
    state = original_layout(random_pipeline("tiny"))
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}
    torch.save({"state_dict": kept}, file)
    said = rf"model\.path={file}: holds no {part} .*: model\.{part}=/folder"
    with pytest.raises(ConfigError, match=said):
        load_pipeline(str(file))


def test_a_file_with_objects_in_it(tmp_path: Path) -> None:
    """Breaks if code in a checkpoint is run, or PyTorch's advice to run it is passed on."""
    file = tmp_path / "model.ckpt"
    torch.save({"state_dict": {}, "callbacks": Path("x")}, file)
    with pytest.raises(ConfigError, match=r"is refused, it holds more than tensors") as error:
        load_pipeline(str(file))
    assert "convert it" in str(error.value)
    assert "weights_only" not in str(error.value)


BIN = dict.fromkeys(PARTS, "diffusion_pytorch_model.bin") | {"text_encoder": "pytorch_model.bin"}


def with_bin(folder: Path, part: str) -> Path:
    """Save a model with the weights of a part as PyTorch writes them; their file."""
    pipeline = random_pipeline("tiny")
    pipeline.save_pretrained(folder)
    for file in (folder / part).glob("*.safetensors"):
        file.unlink()
    torch.save(getattr(pipeline, part).state_dict(), folder / part / BIN[part])
    return folder / part / BIN[part]


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_pytorch_wrote(part: str, tmp_path: Path, capfd: Any) -> None:
    """Breaks if such a folder is not loaded, or diffusers' words on safety come with it."""
    with_bin(tmp_path, part)
    assert_same_weights(load_pipeline(str(tmp_path)), random_pipeline("tiny"))
    assert "unsafe" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_an_older_pytorch_wrote_on_a_gpu(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if they need a GPU to be looked at, or the format before 1.6 is refused.

    What a tensor says of its device stands in for the device.
    """
    file = with_bin(tmp_path, part)
    weights = torch.load(file, weights_only=True)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        torch.save(weights, file, _use_new_zipfile_serialization=False)
    assert_same_weights(load_pipeline(str(tmp_path)), random_pipeline("tiny"))


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_pytorch_wrote_and_that_cannot_be_read(
    part: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Breaks if code in them is run, the libraries' words are repeated, or advice to run it."""
    file = with_bin(tmp_path, part)
    whole, witness = file.read_bytes(), tmp_path / "witness"
    for content, words in (
        (whole[: len(whole) // 2], "cut off or damaged"),
        (whole[:100] + bytes(4000) + whole[4100:], "cut off or damaged"),
        (pickle.dumps({"a": 1}), "cut off or damaged"),
        ([1, 2], "holds a list and no weights by name"),
        ({"a": Trap(witness)}, "it holds more than tensors"),
    ):
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            torch.save(content, file)
        with pytest.raises(ConfigError, match=words) as caught:
            load_pipeline(str(tmp_path))
        line = str(caught.value)
        assert line.startswith(f"model.path={tmp_path}: {file}")
        assert "\n" not in line
        assert "weights_only" not in line
        assert "Unable" not in line
        assert ("convert it" in line) == ("more than tensors" in words)
    assert not witness.exists()
    assert not [each for each in recwarn if "pickle" in str(each.message)]
