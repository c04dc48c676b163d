"""Models to fine-tune and to sample from, and what they remember of how they were loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soc_ft.api.composing import composed, plain
from soc_ft.checking import validated
from soc_ft.config.components import component_class
from soc_ft.config.groups import options, unknown_option
from soc_ft.config.kinds import FINETUNE, MODEL
from soc_ft.config.schema import Model, Scheduler
from soc_ft.errors import ConfigError
from soc_ft.models.availability import SINGLE_FILE_SUFFIXES, check_available
from soc_ft.options import Component

if TYPE_CHECKING:
    import torch

    from soc_ft.models.model import DiffusionModel

_RECORD = "_soc_ft_loaded"
"""Where a model keeps what it was loaded with."""

_UNNAMED = "sd15"
"""Option of conf/model whose settings are those of a model that is named by its path."""


@dataclass
class Loaded:
    """What a model was loaded with, for the record of its run.

    Attributes:
        choices: option of each configuration group.
        sections: settings of ``model`` and ``finetune``, and noise levels of ``scheduler``.
        run: folder of the run that its weights are from; None as long as they are as loaded.
    """

    choices: dict[str, str | None] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    run: Path | None = None


def load_model(
    name_or_path: str | Path,
    *,
    finetune: str | Mapping[str, Any] | None = "full",
    device: str | torch.device | None = None,
    scheduler: str | Mapping[str, Any] = "memoryless",
    **settings: Any,
) -> DiffusionModel:
    """Load a model and prepare it for fine-tuning.

    Args:
        name_or_path: an option of conf/model; or a folder in diffusers format, a single-file
            checkpoint or an id on the Hugging Face hub, with the settings of ``sd15``.
        finetune: which weights are trained, an option of conf/finetune: ``full``, ``lora`` or
            ``offset``; or a mapping of ``option`` and what differs from it, such as
            ``{"option": "lora", "rank": 4}``. None trains nothing: a model to sample from.
        device: of the weights; None is a GPU if there is one.
        scheduler: noise levels of sampling and fine-tuning, an option of conf/scheduler or a
            mapping as above.
        **settings: of conf/model, such as ``guidance_scale``, ``frozen_dtype`` or ``revision``.

    Raises:
        ConfigError: names the argument that is wrong, or says where weights were looked for.
    """
    groups: dict[str, tuple[str, dict[str, Any]]] = {
        "model": _named_model(str(name_or_path), settings),
        "scheduler": _option("scheduler", scheduler),
    }
    if finetune is not None:
        groups["finetune"] = _option("finetune", finetune)
    config, _ = composed([f"{group}={option}" for group, (option, _) in groups.items()])
    sections: dict[str, dict[str, Any]] = {
        group: plain(config[group]) | changes for group, (_, changes) in groups.items()
    }
    model = validated(Model, sections["model"], ("model",))
    component_class(model, "model", MODEL)
    levels = validated(Scheduler, sections["scheduler"], ("scheduler",)).noise_levels()
    if finetune is not None:
        mode = validated(Component, sections["finetune"], ("finetune",))
        component_class(mode, "finetune", FINETUNE)
    given = sections["model"]
    check_available(given, levels)

    from soc_ft.models.devices import usable_device
    from soc_ft.models.loading import build_model
    from soc_ft.models.starting import start

    place = usable_device(device)
    loaded = build_model(given, sections.get("finetune"), levels).to(place)
    start(loaded, sections.get("finetune") or {})
    choices: dict[str, str | None] = {group: option for group, (option, _) in groups.items()}
    vars(loaded)[_RECORD] = Loaded(choices, sections | {"scheduler": levels})
    return loaded


def loaded_with(model: Any) -> Loaded:
    """What a model was loaded with; nothing is known of one from elsewhere.

    Raises:
        ConfigError: it is no model.
    """
    from soc_ft.models.model import DiffusionModel

    if not isinstance(model, DiffusionModel):
        raise ConfigError(
            f"model={type(model).__name__}: is no model of soc_ft; get one from soc_ft.load_model"
        )
    record: Loaded = vars(model).setdefault(_RECORD, Loaded())
    return record


def is_trained(model: DiffusionModel) -> bool:
    """Whether the model has weights to train."""
    return next(model.trainable_parameters(), None) is not None


def _named_model(name: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The option of conf/model that a name or path stands for, and what differs from it."""
    known = options("model")
    if name in known:
        return name, dict(settings)
    is_path = "/" in name or name.startswith(("embedded:", "random:"))
    if not (is_path or name.endswith(SINGLE_FILE_SUFFIXES) or Path(name).exists()):
        raise ConfigError(
            f"{unknown_option('name_or_path', name, known)}, and there is no such folder or file"
        )
    if "path" in settings:
        raise ConfigError(f"path={settings['path']}: name_or_path={name} is the path already")
    return _UNNAMED, {**settings, "path": name}


def _option(group: str, value: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The option of a group that was given, and what differs from it."""
    changes = dict(value) if isinstance(value, Mapping) else {"option": value}
    option, known = str(changes.pop("option", None)), options(group)
    if option not in known:
        raise unknown_option(group, option, known)
    return option, changes
