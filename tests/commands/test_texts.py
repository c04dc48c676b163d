"""Texts on a command line reach the command as they were typed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from soc_ft.commands.texts import quote_texts
from soc_ft.errors import ConfigError
from tests.conftest import composed


def prompts_of(text: str) -> Any:
    (quoted,) = quote_texts([f"prompts={text}"], ("prompts",))
    return composed("run=x", quoted, config="sample", folder="commands").prompts


@pytest.mark.parametrize(
    "text",
    [
        "a cat, sitting",
        "a dog's bone (big)!",
        "a = b; c: d",
        "{a, b}",
        "1984",
        "true",
        "[macro] of a cat",
        "[macro] of a [cat]",
        '"STOP" and "GO"',
        "ends with a backslash \\",
        r"it\'s, \\ and \"",
        "一只猫, 坐着",
        "range(1,3)",
        "choice(a,b)",
        "my prompts.txt",
        "",
    ],
)
def test_a_bare_text_is_one_text(text: str) -> None:
    """Breaks if Hydra's grammar takes a prompt apart, or escapes stay in it."""
    assert prompts_of(text) == text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("[a cat,a dog]", ["a cat", "a dog"]),
        ('["a cat, sitting", "b"]', ["a cat, sitting", "b"]),
        ("[]", []),
        ("null", None),
        ("{option: hpsv2, folder: /a}", {"option": "hpsv2", "folder": "/a"}),
        ("'a cat, sitting'", "a cat, sitting"),
        ('"a cat, sitting"', "a cat, sitting"),
        ("${run}/prompts.txt", "x/prompts.txt"),
    ],
)
def test_what_hydra_means_something_by_stays(text: str, read: Any) -> None:
    """Breaks if a list, nothing, quotation marks or a reference become letters of a prompt."""
    assert prompts_of(text) == read


def test_other_arguments_stay() -> None:
    """Breaks if a flag or another key is changed."""
    arguments = ["-m", "eta=0,1", "--cfg", "job", "output=a b"]
    assert quote_texts(arguments, ("prompts",)) == arguments


@pytest.mark.parametrize("text", ["[a dog's bone]", "[", "[a cat,", "[a [b], c"])
def test_a_list_that_is_none_says_how_to_quote(text: str) -> None:
    """Breaks if a list with an apostrophe, or without its end, ends in a message about tokens, or
    becomes one prompt."""
    with pytest.raises(ConfigError, match=rf"prompts={re.escape(text)}: is no list; .*quotation"):
        prompts_of(text)
