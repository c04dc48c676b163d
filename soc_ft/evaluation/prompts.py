"""The prompts that ``soc-ft sample`` and ``soc-ft evaluate`` are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from soc_ft.checking import validated
from soc_ft.config.components import any_uses_metadata
from soc_ft.config.groups import chosen, options
from soc_ft.config.kinds import METRIC
from soc_ft.config.prompts import held_out_prompts, held_out_sources
from soc_ft.config.schema import Prompts
from soc_ft.data.metadata import Metadata
from soc_ft.data.prompts import given_metadata, given_prompts, load_metadata
from soc_ft.errors import ConfigError
from soc_ft.evaluation.plan import GivenPrompts, Measure


def chosen_prompts(
    given: GivenPrompts, column: str | None, limit: int | None, of_run: Prompts | None
) -> list[str]:
    """Prompts that a key ``prompts`` stands for.

    Args:
        given: the key.
        column: of a file, as in ``data.prompts.load_prompts``.
        limit: use the first ``limit`` prompts of what is no list.
        of_run: the run's settings of conf/prompts, if there is a run.

    Raises:
        ConfigError: there are no prompts, or they cannot be read.
    """
    settings = _settings(given, of_run)
    if isinstance(settings, Prompts):
        return held_out_prompts(settings, limit)
    return given_prompts(settings, column, limit)


def chosen_metadata(given: GivenPrompts, column: str | None, of_run: Prompts | None) -> Metadata:
    """What is said of these prompts beside their text; arguments as of :func:`chosen_prompts`.

    Raises:
        ConfigError: they cannot be read, or one has different metadata in two places.
    """
    settings = _settings(given, of_run)
    if isinstance(settings, Prompts):
        return load_metadata(held_out_sources(settings), settings.column)
    return given_metadata(settings, column)


def used_metadata(measures: Mapping[str, Measure], metadata: Callable[[], Metadata]) -> Metadata:
    """What is said of prompts, if a column of the table is measured by it; else nothing."""
    components = {label: measure.component for label, measure in measures.items()}
    return metadata() if any_uses_metadata(components, "metrics", METRIC) else {}


def _settings(given: GivenPrompts, of_run: Prompts | None) -> Prompts | str | list[str]:
    """Settings of conf/prompts, or what names prompts by itself."""
    if given is None:
        if of_run is None:
            raise ConfigError(
                "prompts: a base model has none of its own; give one, a list, a file, or an option "
                f"of conf/prompts ({', '.join(options('prompts'))})"
            )
        return of_run
    if isinstance(given, dict) or (isinstance(given, str) and given in options("prompts")):
        return validated(Prompts, chosen("prompts", "prompts", given), ("prompts",))
    return given
