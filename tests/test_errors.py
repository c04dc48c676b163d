"""Hints for words that nobody knows."""

from __future__ import annotations

import pytest

from soc_ft.errors import did_you_mean

KEYS = ("lambda", "trainer.lr", "trainer.batch_size", "trainer.reward_batch", "method.clip")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lamda", "lambda"),
        ("trainer.batchsize", "trainer.batch_size"),
        ("trainer.learning_rate", "trainer.lr"),
        ("trainer.lrate", "trainer.lr"),
        ("training.batch_size", "trainer.batch_size"),
        ("trainer.temperature", ""),
        ("nothing", ""),
    ],
)
def test_a_hint_names_what_was_meant_or_nothing(word: str, meant: str) -> None:
    """Breaks if a shared section passes for likeness, so that a hint leads away from the key."""
    assert did_you_mean(word, KEYS) == (f"; did you mean {meant}?" if meant else "")
