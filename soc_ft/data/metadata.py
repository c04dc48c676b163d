"""What files say of prompts beside their text, such as the objects that a picture has to show."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from soc_ft.errors import ConfigError

Metadata = Mapping[str, Mapping[str, Any]]
"""By the text of a prompt, the further keys of its entry; empty if it has none."""


def by_prompt(entries: Iterable[tuple[str, str, Mapping[str, Any]]]) -> Metadata:
    """Metadata by prompt; an entry without any says nothing against another one's.

    Args:
        entries: where each stands, for messages; its prompt; and its further keys.

    Raises:
        ConfigError: one prompt has different metadata in two places; names both.
    """
    places: dict[str, str] = {}
    found: dict[str, Mapping[str, Any]] = {}
    for place, prompt, said in entries:
        known = found.get(prompt)
        if known and said and known != said:
            differing = [key for key in {**known, **said} if known.get(key) != said.get(key)]
            raise ConfigError(
                f"{place}: has other metadata ({', '.join(map(str, differing))}) than the same "
                f"prompt in {places[prompt]}, and a reward or metric uses it; make them the same, "
                "or name files without these keys"
            )
        if not known:
            places[prompt], found[prompt] = place, dict(said)
    return found


def json_values(said: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a prompt's metadata that JSON can hold: no pictures, dates or infinite numbers."""
    return {key: value for key, value in said.items() if _is_json(value)}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
