"""Which prompts are trained on, and which are held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from soc_ft.checking import validated
from soc_ft.config import check
from soc_ft.config.groups import chosen
from soc_ft.config.prompts import held_out_prompts, metadata_of, training_prompts
from soc_ft.config.schema import Prompts
from soc_ft.errors import ConfigError
from tests.conftest import TINY, composed

STYLES = ("anime", "concept-art", "paintings", "photo")
OWN = [override for override in TINY if not override.startswith("prompts")]


def settings(**given: Any) -> Prompts:
    return validated(Prompts, {"column": None, "validation": None} | given, ("prompts",))


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Four files like those of HPSv2's benchmark, of 60 prompts each, and one of another kind."""
    for style in (*STYLES, "drawbench"):
        prompts = [f"{style} {number}" for number in range(60)]
        (tmp_path / f"{style}.json").write_text(json.dumps(prompts))
    return tmp_path


def test_several_sources_are_read_in_turn(benchmark: Path) -> None:
    """Breaks if the first so many prompts are of one source, or those of a longer one get lost."""
    short = benchmark / "short.txt"
    short.write_text("a\nb\n")
    sources = [str(short), str(benchmark / "photo.json")]
    found = training_prompts(settings(train=sources, validation=sources, limit=5))
    assert found == ["a", "photo 0", "b", "photo 1", "photo 2"]
    assert held_out_prompts(settings(train="x", validation=sources), 3) == ["a", "photo 0", "b"]
    assert len(held_out_prompts(settings(train="x", validation=sources), None)) == 62


def test_the_last_of_each_source_are_held_out(benchmark: Path) -> None:
    """Breaks if a prompt is trained on and measured, or one source loses none."""
    sources = [str(benchmark / f"{style}.json") for style in STYLES[:2]]
    given = settings(train=sources, held_out=7)
    training, held_out = training_prompts(given), held_out_prompts(given, None)
    assert not set(training) & set(held_out)
    assert len(training) == 2 * 53
    assert held_out[:3] == ["anime 53", "concept-art 53", "anime 54"]
    assert set(training) | set(held_out) == {f"{s} {n}" for s in STYLES[:2] for n in range(60)}


def test_a_held_out_prompt_that_stands_elsewhere_too_is_not_trained_on(tmp_path: Path) -> None:
    """Breaks if a repeated line lets a run train on what it is measured by."""
    (tmp_path / "a.txt").write_text("x\ny\nz\n")
    (tmp_path / "b.txt").write_text("z\nu\nv\n")
    sources = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    assert training_prompts(settings(train=sources, held_out=1)) == ["x", "u", "y"]


def test_the_benchmark_of_hpsv2(benchmark: Path) -> None:
    """Breaks if the option names other files, or a style is not that file alone."""
    overrides = [*OWN, "prompts=hpsv2", f"prompts.folder={benchmark}"]
    run = check(composed(*overrides))
    assert training_prompts(run.prompts)[:5] == [*(f"{s} 0" for s in STYLES), "anime 1"]
    assert len(training_prompts(run.prompts)) == 40
    assert held_out_prompts(run.prompts, 4) == [f"{s} 10" for s in STYLES]
    run = check(composed(*overrides, "prompts.style=paintings", "prompts.held_out=1"))
    assert training_prompts(run.prompts) == [f"paintings {number}" for number in range(59)]
    assert held_out_prompts(run.prompts, None) == ["paintings 59"]


def test_an_option_is_changed_before_it_is_resolved(benchmark: Path) -> None:
    """Breaks if `evaluate prompts={option: hpsv2, folder: ...}` has no way to name the folder."""
    given = {"option": "hpsv2", "folder": str(benchmark), "style": "photo"}
    option = validated(Prompts, chosen("prompts", "prompts", given), ("prompts",))
    assert held_out_prompts(option, 1) == ["photo 10"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["prompts.folder={folder}/not_here"],
            r"^prompts\.train: not found: \S+/not_here/anime\.json, .*photo\.json; HPSv2's authors",
        ),
        (["prompts.style=photos"], r"^prompts\.style=photos: .*did you mean photo\?"),
        (["prompts.held_out=60"], r"^prompts\.held_out=60: holds out every prompt of \S+anime\.js"),
        (["prompts.held_out=0"], r"^prompts\.held_out=0: must be greater than"),
        (["prompts.held_out=null"], r"^prompts\.validation: has no value; .*prompts\.held_out"),
        (["prompts.validation=a.txt"], r"^prompts\.held_out=50: prompts\.validation names"),
        (["prompts.train=[]"], r"^prompts\.train=\[\]: "),
        (["prompts.train=[3]"], r"^prompts\.train\.0=3: must be a valid string"),
    ],
)
def test_what_cannot_be_is_one_line(benchmark: Path, overrides: list[str], message: str) -> None:
    """Breaks if a mistake trains on nothing or measures nothing, or does not say its key."""
    given = [override.format(folder=benchmark) for override in overrides]
    with pytest.raises(ConfigError, match=message) as caught:
        check(composed(*OWN, "prompts=hpsv2", f"prompts.folder={benchmark}", *given))
    assert "\n" not in str(caught.value)


def test_metadata_are_those_of_all_prompts(tmp_path: Path) -> None:
    """Breaks if held-out prompts, or training prompts beyond the limit, are unknown."""
    (tmp_path / "a.jsonl").write_text('{"prompt": "x", "n": 1}\n{"prompt": "y", "n": 2}\n')
    (tmp_path / "b.jsonl").write_text('{"prompt": "z", "n": 3}\n')
    train, other = (str(tmp_path / name) for name in ("a.jsonl", "b.jsonl"))
    known = {"x": {"n": 1}, "y": {"n": 2}}
    assert metadata_of(settings(train=train, held_out=1)) == known
    assert metadata_of(settings(train=train, validation=other, limit=1)) == known | {"z": {"n": 3}}


@pytest.mark.parametrize("reward", ["Redness", "Informed"])
def test_a_contradiction_bars_only_what_uses_metadata(tmp_path: Path, reward: str) -> None:
    """Breaks if files that served so far are refused, or a sweep is submitted and then fails."""
    (tmp_path / "a.jsonl").write_text('{"prompt": "x", "n": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"prompt": "x", "n": 2}\n')
    files = [
        f"prompts.{use}={tmp_path}/{n}.jsonl" for use, n in (("train", "a"), ("validation", "b"))
    ]
    part = f"+reward.rewards.one._target_=tests.scorers.{reward}"
    parts = [part, "+reward.coefficients.one=1"]
    target = "reward._target_=soc_ft.rewards.weighted.Weighted"
    own = [each for each in OWN if not each.startswith("reward")]
    whole = [*own, "reward=shapes", target, "prompts=file", *files, *parts]
    if reward == "Redness":
        check(composed(*whole))
    else:
        with pytest.raises(ConfigError, match=r"b\.jsonl, line 1: .* in \S+a\.jsonl, line 1,"):
            check(composed(*whole))
