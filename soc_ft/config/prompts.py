"""The training and the held-out prompts that a section ``prompts`` stands for."""

from __future__ import annotations

from pathlib import Path

from soc_ft.config.schema import Prompts
from soc_ft.data.metadata import Metadata
from soc_ft.data.prompts import in_turn, load_metadata, load_prompts
from soc_ft.errors import ConfigError, did_you_mean
from soc_ft.files import package_path


def training_prompts(settings: Prompts) -> list[str]:
    """What is trained on: the prompts of all sources in turn, without any that is held out.

    Raises:
        ConfigError: a source is not there or cannot be read, or nothing of it is left.
    """
    sources = training_sources(settings)
    groups = [load_prompts(source, settings.column) for source in sources]
    if settings.held_out:
        held_out = {each for group in groups for each in group[-settings.held_out :]}
        groups = [[each for each in group if each not in held_out] for group in groups]
        for source, group in zip(sources, groups, strict=True):
            if not group:
                raise ConfigError(
                    f"prompts.held_out={settings.held_out}: holds out every prompt of {source}, so "
                    "that none is left to train on; choose a smaller number"
                )
    return in_turn(groups)[: settings.limit]


def held_out_prompts(settings: Prompts, limit: int | None) -> list[str]:
    """What is measured: the first ``limit`` held-out prompts of all sources in turn.

    Raises:
        ConfigError: a source is not there or cannot be read.
    """
    sources = held_out_sources(settings)
    groups = [load_prompts(source, settings.column) for source in sources]
    last = -(settings.held_out or 0)  # from 0 on it is all of them
    return in_turn([group[last:] for group in groups])[:limit]


def metadata_of(settings: Prompts) -> Metadata:
    """What is said of all of these prompts beside their text.

    Raises:
        ConfigError: one has different metadata in two places; names both.
    """
    sources = [*training_sources(settings), *held_out_sources(settings)]
    return load_metadata(sources, settings.column)


def training_sources(settings: Prompts) -> list[str]:
    """Where the training prompts are.

    Raises:
        ConfigError: none of several sources has the name ``style``, or a file is not there and
            the settings know where it comes from.
    """
    by_name = {Path(source).stem: source for source in settings.train}
    if settings.style is not None and settings.style not in by_name:
        hint = did_you_mean(settings.style, by_name)
        raise ConfigError(
            f"prompts.style={settings.style}: no source has this name{hint} (there are: "
            f"{', '.join(by_name)})"
        )
    sources = settings.train if settings.style is None else [by_name[settings.style]]
    missing = [source for source in sources if not package_path(source).exists()]
    if settings.origin is not None and missing:
        raise ConfigError(f"prompts.train: not found: {', '.join(missing)}; {settings.origin}")
    return sources


def held_out_sources(settings: Prompts) -> list[str]:
    """Where the held-out prompts are.

    Raises:
        ConfigError: as :func:`training_sources`, or both or none of ``validation`` and
            ``held_out`` are given.
    """
    if settings.held_out and settings.validation:
        raise ConfigError(
            f"prompts.held_out={settings.held_out}: prompts.validation names held-out prompts "
            "already; set one of them to null"
        )
    if not (settings.held_out or settings.validation):
        raise ConfigError(
            "prompts.validation: has no value; name a source of held-out prompts, or hold out the "
            "last so many of prompts.train with prompts.held_out"
        )
    return settings.validation or training_sources(settings)
