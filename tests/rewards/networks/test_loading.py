"""Weights are read safely and strictly, once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from soc_ft.errors import ConfigError
from soc_ft.rewards.networks.loading import load_frozen, read_weights
from soc_ft.rewards.weights import WeightFile


class Tiny(nn.Module):
    """A body, a head, a scalar, and a buffer that no file holds."""

    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.body = nn.ModuleList(nn.Linear(2, 2) for _ in range(layers))
        self.head = nn.Linear(2, 1)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("position_ids", torch.arange(3)[None], persistent=False)


def weights() -> dict[str, Tensor]:
    return {name: torch.randn_like(weight) for name, weight in Tiny().state_dict().items()}


def file_with(path: Path, content: Any) -> WeightFile:
    torch.save(content, path)
    return WeightFile("tiny", "weights", "some/one", "tiny.pt", str(path))


def refused(file: WeightFile) -> str:
    with pytest.raises(ConfigError) as caught:
        load_frozen(Tiny, file, torch.float32)
    line = str(caught.value)
    assert "\n" not in line
    assert f"reward.weights={file.given} (of tiny)" in line
    return line


def test_a_loaded_network_is_frozen_and_has_the_weights_and_buffers(tmp_path: Path) -> None:
    """Breaks when a weight keeps its random value, or a buffer the meta device's absence of one."""
    saved = weights()
    network = load_frozen(Tiny, file_with(tmp_path / "a.pt", saved), torch.float32)
    assert all(torch.equal(network.state_dict()[name], saved[name]) for name in saved)
    assert torch.equal(network.position_ids, torch.arange(3)[None])
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_head_and_scalars_keep_float32(tmp_path: Path) -> None:
    """Breaks when bfloat16 reaches the last layer, whose rounding is the score's."""
    network = load_frozen(Tiny, file_with(tmp_path / "a.pt", weights()), torch.bfloat16)
    assert network.body[0].weight.dtype == torch.bfloat16
    assert network.head.weight.dtype == torch.float32
    assert network.scale.dtype == torch.float32


def test_half_precision_files_are_loaded_in_float32(tmp_path: Path) -> None:
    """Breaks when the precision of the file decides that of the score."""
    halves = {name: weight.half() for name, weight in weights().items()}
    network = load_frozen(Tiny, file_with(tmp_path / "a.pt", halves), torch.float32)
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_a_network_is_loaded_once_while_it_is_in_use(tmp_path: Path) -> None:
    """Breaks when two users of a file hold it twice, or other depths or precisions are mixed up."""
    file = file_with(tmp_path / "a.pt", weights())
    network = load_frozen(Tiny, file, torch.float32)
    assert load_frozen(Tiny, file, torch.float32) is network
    assert load_frozen(Tiny, file, torch.bfloat16) is not network
    with pytest.raises(ConfigError, match=r"missing keys: body\.1"):
        load_frozen(Tiny, file, torch.float32, layers=(2,))


def test_surplus_missing_and_misshapen_weights_are_named(tmp_path: Path) -> None:
    """Breaks when another model's file is loaded in part."""
    other = weights() | {"tail.bias": torch.zeros(1), "body.0.bias": torch.zeros(5)}
    del other["head.weight"]
    line = refused(file_with(tmp_path / "a.pt", other))
    assert "missing keys: head.weight" in line
    assert "surplus keys: tail.bias" in line
    assert "body.0.bias (5,) instead of (2,)" in line
    line = refused(file_with(tmp_path / "b.pt", {f"key{i}": torch.zeros(1) for i in range(9)}))
    assert "surplus keys: key0, key1, key2 and 6 more" in line


def test_keys_that_the_score_does_not_use_may_be_there(tmp_path: Path) -> None:
    """Breaks when the published files are refused for what their authors left in them."""
    saved = weights() | {"text.position_ids": torch.arange(3)}
    load_frozen(Tiny, file_with(tmp_path / "a.pt", saved), torch.float32)
    with pytest.raises(ConfigError, match=r"surplus keys: text\.position_ids"):
        load_frozen(
            Tiny, file_with(tmp_path / "b.pt", saved), torch.float32, ignored="nothing else"
        )


def test_a_checkpoint_may_hold_its_weights_under_state_dict(tmp_path: Path) -> None:
    """Breaks when a file with an optimizer beside the weights is refused."""
    file = file_with(tmp_path / "a.pt", {"epoch": 3, "state_dict": weights()})
    load_frozen(Tiny, file, torch.float32)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped"])
def test_damaged_files_are_named(tmp_path: Path, suffix: str, damage: str) -> None:
    """Breaks when a broken download ends in a traceback of the library that reads it."""
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(weights(), path)
    else:
        save_file(weights(), path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "empty": b"",
            "text": b"version https://git-lfs.github.com/spec/v1\nsize 17\n",
            "flipped": bytes(255 - byte for byte in content),
        }[damage]
    )
    with pytest.raises(
        ConfigError, match=r"reward\.weights: .* cannot be read as weights"
    ) as caught:
        read_weights(path, "reward.weights")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Malicious:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    """Breaks when a checkpoint is unpickled without restriction."""
    torch.save({"body": Malicious(tmp_path / "made")}, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        read_weights(tmp_path / "a.pt", "reward.weights")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"state_dict": 3}, {"epoch": 3}])
def test_a_file_without_weights_says_so(tmp_path: Path, content: Any) -> None:
    """Breaks when a checkpoint of something else is indexed as if it held weights."""
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="holds no weights by name"):
        read_weights(tmp_path / "a.pt", "reward.weights")
