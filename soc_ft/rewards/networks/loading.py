"""Reading weights safely and strictly, once in a process."""

from __future__ import annotations

import pickle
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from soc_ft.errors import ConfigError
from soc_ft.files import unreadable
from soc_ft.rewards.weights import WeightFile

Network = TypeVar("Network", bound=nn.Module)

_shared: WeakValueDictionary[tuple[Any, ...], nn.Module] = WeakValueDictionary()
"""Frozen networks in use, by what they were made from."""


class ScoringNetwork(nn.Module, ABC):
    """A network that scores pictures for prompts."""

    @abstractmethod
    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score (B, 3, H, W) pictures in [0, 1] for B prompts: (B,), float32 or float64."""


def load_frozen(
    build: Callable[..., Network],
    file: WeightFile,
    dtype: torch.dtype,
    *,
    layers: tuple[int, ...] = (),
    key_in_file: Callable[[str], str] = str,
    ignored: str = r"(.*\.)?position_ids",
) -> Network:
    """A frozen network with the weights of a file; the same one for every caller.

    Args:
        build: makes the network; called on the meta device, where it costs nothing.
        file: of the weights.
        dtype: of the weights; a ``head`` and scalars stay in float32.
        layers: arguments of ``build``, its depths.
        key_in_file: name in the file of a weight of the network.
        ignored: pattern of the keys that the file may have beyond those of the network.

    Raises:
        ConfigError: the file is missing, cannot be read, or holds other weights; it is named with
            its surplus and missing keys.
    """
    path = file.fetch().resolve()
    key = (build, layers, path, dtype)
    network = _shared.get(key)
    if network is None:
        with torch.device("meta"):
            network = build(*layers)
        weights = _matching(network, read_weights(path, str(file)), file, key_in_file, ignored)
        network.load_state_dict(weights, strict=True, assign=True)
        _fill_buffers(network)
        _cast(network, dtype)
        network.eval().requires_grad_(False)
        _shared[key] = network
    return network  # type: ignore[return-value]


def key_in_clip(name: str) -> str:
    """Name in a file of a CLIP alone, for a weight of a network that holds it as ``clip``."""
    return name.removeprefix("clip.")


def read_weights(path: Path, named: str) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file or a checkpoint of PyTorch, on the CPU.

    No code in the file is run. A checkpoint may hold its weights under ``state_dict``.

    Args:
        path: the file.
        named: how error messages call it.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        OSError,
    ) as error:
        raise ConfigError(
            f"{named}: {path} cannot be read as weights ({unreadable(error)})"
        ) from error
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise ConfigError(f"{named}: {path} holds no weights by name")
    return content


def _matching(
    network: nn.Module,
    found: dict[str, Tensor],
    file: WeightFile,
    key_in_file: Callable[[str], str],
    ignored: str,
) -> dict[str, Tensor]:
    """The network's weights among those of a file, of which nothing may be left over."""
    wanted = {name: key_in_file(name) for name in network.state_dict()}
    shapes = {wanted[name]: tensor.shape for name, tensor in network.state_dict().items()}
    missing = [key for key in shapes if key not in found]
    surplus = [key for key in found if key not in shapes and not re.fullmatch(ignored, key)]
    misshapen = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(shape)}"
        for key, shape in shapes.items()
        if key in found and found[key].shape != shape
    ]
    problems = [
        f"{what}: {_some(keys)}"
        for what, keys in (
            ("missing keys", missing),
            ("surplus keys", surplus),
            ("other shapes", misshapen),
        )
        if keys
    ]
    if problems:
        raise ConfigError(f"{file}: these are not its weights ({'; '.join(problems)})")
    # float32 first: a file in half precision would otherwise decide the precision of the head.
    return {name: found[key].float() for name, key in wanted.items()}


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(sorted(keys)[:3])
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"


def _fill_buffers(network: nn.Module) -> None:
    """Compute the buffers that no file holds, and that the meta device left without values."""
    for name, buffer in network.named_buffers():
        if not buffer.is_meta:
            continue
        parent, _, leaf = name.rpartition(".")
        if leaf == "position_ids":
            values = torch.arange(buffer.shape[-1]).expand(buffer.shape)
        elif leaf == "attn_mask":
            values = torch.full(buffer.shape, -torch.inf).triu(1)
        else:
            raise NotImplementedError(f"no rule for the values of the buffer {name}")
        network.get_submodule(parent)._buffers[leaf] = values


def _cast(network: nn.Module, dtype: torch.dtype) -> None:
    for name, parameter in network.named_parameters():
        if parameter.dim() and not name.startswith("head."):
            parameter.data = parameter.data.to(dtype)
