"""Weights that a run starts from: what another run exported, or one of its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from soc_ft.errors import ConfigError
from soc_ft.integrity import check_whole, tensor_names
from soc_ft.layout import CHECKPOINT_FOLDER, CONFIG_FILE, EXPORT_FOLDER, LAST_CHECKPOINT
from soc_ft.models.availability import weight_files
from soc_ft.plain_yaml import read_mapping

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.models.model import DiffusionModel

LORA_FILE = "pytorch_lora_weights.safetensors"
OFFSET_FILE = "offset.safetensors"

_WEIGHTS = (".safetensors", ".ckpt")
_MODES = "soc_ft.models.finetune."


@dataclass(frozen=True)
class Start:
    """Where weights are.

    Attributes:
        kind: "state" (trained weights under their own names), "lora" (those that diffusers loads)
            or "folder" (in diffusers format).
        path: a file, or the folder.
    """

    kind: Literal["state", "lora", "folder"]
    path: Path


def find_start(init: str) -> Start:
    """Find the weights that ``finetune.init`` names.

    Args:
        init: the folder of a run, of which the export is taken or else the last checkpoint; an
            exported folder; or a file of one of these.

    Raises:
        ConfigError: there are none.
    """
    path = Path(init).expanduser()
    if path.is_file() and path.suffix in _WEIGHTS:
        return Start("lora" if path.name == LORA_FILE else "state", path)
    for folder in (path, path / EXPORT_FOLDER):
        if (folder / LORA_FILE).is_file():
            return Start("lora", folder / LORA_FILE)
        if (folder / OFFSET_FILE).is_file():
            return Start("state", folder / OFFSET_FILE)
        if (folder / "model_index.json").is_file():
            return Start("folder", folder)
    last = path / CHECKPOINT_FOLDER / LAST_CHECKPOINT
    if last.is_file():
        return Start("state", last)
    raise ConfigError(
        f"finetune.init={init}: there are no trained weights; name the folder of a run, an "
        f"exported folder, or a checkpoint ({', '.join(_WEIGHTS)})"
    )


def check_start(finetune: Mapping[str, Any]) -> None:
    """Check that the weights to start from are there and whole, if any are named.

    Args:
        finetune: settings of conf/finetune.

    Raises:
        ConfigError: they are not.
    """
    if not finetune.get("init"):
        return
    found = find_start(finetune["init"])
    is_folder = found.kind == "folder"
    try:
        for file in weight_files(found.path / "unet") if is_folder else [found.path]:
            check_whole(file)
        if found.kind == "state":
            _scale_of_run(found.path)
        _check_mode(found, str(finetune.get("_target_", "")))
    except ConfigError as error:
        raise ConfigError(f"finetune.init={finetune['init']}: {error}") from None


def _check_mode(found: Start, target: str) -> None:
    """Check, as far as it shows from outside, that weights of LoRA meet LoRA, and others not."""
    if not target.startswith(_MODES) or (of_lora := _is_lora(found)) is None:
        return
    if of_lora != target.endswith("LoRA"):
        own, wanted = ("a LoRA's", "finetune=lora") if of_lora else ("no LoRA's", "finetune=full")
        raise ConfigError(f"{found.path}: these weights are {own}; use {wanted}")


def _is_lora(found: Start) -> bool | None:
    """Whether weights are those of LoRA; None if only PyTorch could tell."""
    if found.kind != "state":
        return found.kind == "lora"
    if found.path.suffix == ".safetensors":
        return any(".lora_" in name for name in tensor_names(found.path))
    config = _config_of_run(found.path)
    return None if config is None else str(config.get("_target_", "")).endswith("LoRA")


def start(model: DiffusionModel, finetune: Mapping[str, Any]) -> None:
    """Let a model start from the weights that its settings name, if they name any.

    LoRA weights that were trained with another alpha / rank are rescaled: the model is the same.

    Args:
        model: in which the weights are replaced.
        finetune: settings of conf/finetune that it was built with.

    Raises:
        ConfigError: the weights are not there, or not of this model and mode.
    """
    if not finetune.get("init"):
        return
    found = find_start(finetune["init"])
    try:
        model.load_trainable_state(_state(model, found))
    except ConfigError as error:
        raise ConfigError(f"finetune.init={finetune['init']}: {found.path}: {error}") from None


def _state(model: DiffusionModel, found: Start) -> dict[str, Tensor]:
    from soc_ft.models.networks import TRAINED, AdaptedNetwork
    from soc_ft.models.weights import load_weights, naming_weights

    networks, scale = model.networks, None
    if found.kind == "state":
        state, scale = load_weights(found.path), _scale_of_run(found.path)
    elif found.kind == "folder":
        with naming_weights(found.path):
            state = model.family.read_folder(found.path)
    else:
        with naming_weights(found.path):
            weights, scale = model.family.read_lora(found.path)
        state = {
            name.replace(".lora_A.", f".lora_A.{TRAINED}.").replace(
                ".lora_B.", f".lora_B.{TRAINED}."
            ): tensor
            for name, tensor in weights.items()
        }
    if scale is None or not isinstance(networks, AdaptedNetwork):
        return state
    factor = scale / networks.scale
    return {name: each * factor if ".lora_B." in name else each for name, each in state.items()}


def _scale_of_run(checkpoint: Path) -> float | None:
    """Alpha / rank of the run in whose folder a checkpoint lies, if it is a LoRA's.

    Raises:
        ConfigError: the run's configuration is damaged.
    """
    settings = _config_of_run(checkpoint)
    try:
        return None if settings is None else float(settings["alpha"]) / int(settings["rank"])
    except (KeyError, TypeError, ValueError):
        return None


def _config_of_run(checkpoint: Path) -> Mapping[str, Any] | None:
    """The finetune section of the run in whose folder a checkpoint lies, if there is one.

    Raises:
        ConfigError: the run's configuration is damaged.
    """
    config = checkpoint.absolute().parent.parent / CONFIG_FILE
    found = read_mapping(config).get("finetune") if config.is_file() else None
    return found if isinstance(found, Mapping) else None
