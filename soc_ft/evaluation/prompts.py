"""The prompts that ``soc-ft sample`` and ``soc-ft evaluate`` are given."""

from __future__ import annotations

from soc_ft.checking import validated
from soc_ft.config.groups import chosen, options
from soc_ft.config.schema import Prompts
from soc_ft.data.prompts import given_prompts, load_prompts
from soc_ft.errors import ConfigError


def chosen_prompts(
    given: str | list[str] | None,
    column: str | None,
    limit: int | None,
    of_run: Prompts | None,
) -> list[str]:
    """Prompts that a key ``prompts`` stands for.

    Args:
        given: a prompt, a list of them, a file, a data set, or an option of conf/prompts, whose
            held-out prompts are taken; None are those of the run.
        column: of a file, as in ``data.prompts.load_prompts``.
        limit: use the first ``limit`` prompts of what is no list.
        of_run: the run's settings of conf/prompts, if there is a run.

    Raises:
        ConfigError: there are no prompts, or they cannot be read.
    """
    if given is None:
        if of_run is None:
            raise ConfigError(
                "prompts: a base model has none of its own; give one, a list, a file, or an option "
                f"of conf/prompts ({', '.join(options('prompts'))})"
            )
        return load_prompts(of_run.validation, of_run.column, limit)
    if isinstance(given, str) and given in options("prompts"):
        option = validated(Prompts, chosen("prompts", "prompts", given), ("prompts",))
        return load_prompts(option.validation, option.column, limit)
    return given_prompts(given, column, limit)
