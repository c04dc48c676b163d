"""Keys of a command line whose values are texts, which Hydra's grammar would take apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from soc_ft.errors import ConfigError


def quote_texts(arguments: Sequence[str], keys: Collection[str]) -> list[str]:
    """Put texts into quotation marks, so that commas, brackets and quotes are letters in them.

    A list stays a list, a mapping stays one, ``null`` stays nothing, and what is in quotation marks
    as a whole already stays as it is.

    Args:
        arguments: of a command line of Hydra.
        keys: whose values are a text or a list of texts.

    Raises:
        ConfigError: a value is in brackets as a whole, or in one that is not closed, and is no
            list that Hydra reads.
    """
    parser = OverridesParser.create()
    return [
        _quoted(argument, parser) if argument.partition("=")[0] in keys else argument
        for argument in arguments
    ]


def _quoted(argument: str, parser: OverridesParser) -> str:
    key, equals, text = argument.partition("=")
    try:
        override = parser.parse_override(argument)
        if not override.is_sweep_override():
            value = override.value()
            in_marks = isinstance(value, str) and text.lstrip().startswith(("'", '"'))
            if value is None or isinstance(value, list | dict) or in_marks or "${" in text:
                return argument
    except HydraException:
        if _is_list(text):
            raise ConfigError(
                f"{argument}: is no list; put a prompt that contains commas, quotes or brackets "
                """into quotation marks, as in prompts='["a cat, sitting", "a {red} dog"]'"""
            ) from None
    return f"{key}{equals}{QuotedString(text, Quote.single).with_quotes()}"


def _is_list(text: str) -> bool:
    """Whether a text begins with a bracket that its last character closes, or nothing does."""
    if not text.startswith("["):
        return False
    depth = 0
    for place, letter in enumerate(text):
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if depth == 0:
            return place == len(text) - 1
    return True
