"""Telling rewards and metrics what files say of prompts beside their text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from soc_ft.data.metadata import Metadata
from soc_ft.rewards.base import UsesMetadata, Wraps
from soc_ft.rewards.trial import called


def share_metadata(scorer: Any, key: str, metadata: Callable[[], Metadata]) -> None:
    """Tell a reward or metric, or those that it asks, if one of them uses metadata.

    Args:
        scorer: just built.
        key: of it in the configuration, for messages.
        metadata: of all prompts that it will score; called if it is used.

    Raises:
        ConfigError: the metadata contradict each other, or cannot be used.
    """
    for user in _users(scorer):
        named = f"{key} ({getattr(user, 'name', type(user).__name__)})"
        called(user.use_metadata, named, metadata(), when="when it was given the metadata")


def _users(scorer: Any) -> Iterator[UsesMetadata]:
    if isinstance(scorer, UsesMetadata):
        yield scorer
    for part in scorer.wrapped() if isinstance(scorer, Wraps) else ():
        yield from _users(part)
