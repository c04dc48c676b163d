"""What files say of prompts beside their text."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from soc_ft.data.metadata import json_values
from soc_ft.data.prompts import given_metadata, load_metadata
from soc_ft.errors import ConfigError

CATS = {"include": [{"class": "cat", "count": 2}], "tag": "counting"}


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("name", "text", "dog", "cats"),
    [
        (
            "p.jsonl",
            f'{json.dumps({"prompt": " two cats ", **CATS})}\n"a dog"\n{{"prompt": "a bird"}}',
            {},
            CATS,
        ),
        ("p.json", json.dumps(["a dog", {"prompt": "two cats"} | CATS, "a bird"]), {}, CATS),
        ("p.csv", "tag,prompt\nx,two cats\n,a dog\n", {"tag": ""}, {"tag": "x"}),
        ("p.tsv", "text\tprompt\ntwo\ttwo cats\n\ta dog\n", {"text": ""}, {"text": "two"}),
        ("p.txt", "a dog\ntwo cats", {}, {}),
    ],
)
def test_what_stands_beside_a_prompt_is_kept_by_its_text(
    tmp_path: Path, name: str, text: str, dog: object, cats: object
) -> None:
    """Breaks if the prompt itself is among it, white space parts them, or a plain prompt lacks."""
    found = load_metadata([write(tmp_path / name, text)])
    assert found["two cats"] == cats
    assert found["a dog"] == dog


def test_the_column_decides_what_stands_beside_it(tmp_path: Path) -> None:
    """Breaks if another column is taken for the prompt than the one that is trained on."""
    source = write(tmp_path / "p.csv", "prompt,caption\na,b\n")
    assert load_metadata([source], "caption") == {"b": {"prompt": "a"}}
    assert given_metadata(source, "caption") == {"b": {"prompt": "a"}}
    assert given_metadata(["a ", "b"]) == {"a": {}, "b": {}}


def test_columns_of_a_data_set_are_kept(tmp_path: Path) -> None:
    """Breaks if only the prompts of a data set are read where more is wanted."""
    import datasets

    datasets.disable_progress_bars()
    given = {"prompt": ["a", "b"], "objects": [["x"], []]}
    datasets.Dataset.from_dict(given).save_to_disk(tmp_path / "set")
    found = load_metadata([str(tmp_path / "set")])
    assert found == {"a": {"objects": ["x"]}, "b": {"objects": []}}


def test_a_contradiction_names_both_places(tmp_path: Path) -> None:
    """Breaks if the last of two entries wins, or the same entry twice is an error."""
    first = write(tmp_path / "a.jsonl", '"c"\n\n{"prompt": "a", "tag": "x", "n": 1}\n')
    second = write(tmp_path / "b.json", '["a",\n {"prompt": "a ", "n": 1, "tag": "y"}]')
    third = write(tmp_path / "c.csv", "prompt,tag,n\nb,x,1\n")
    with pytest.raises(ConfigError) as caught:
        load_metadata([first, third, second])
    line = str(caught.value)
    assert line.startswith(f"{second}, line 2, item 1: has other metadata (tag) than the same ")
    assert f"prompt in {first}, line 3, and" in line
    assert "\n" not in line
    assert load_metadata([first, third, first])["a"] == {"tag": "x", "n": 1}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_saying_nothing_is_no_contradiction(tmp_path: Path, order: tuple[int, int]) -> None:
    """Breaks if a plain list of the same prompts cannot be validated on, or hides what is known."""
    plain = write(tmp_path / "a.txt", "a\n")
    rich = write(tmp_path / "b.jsonl", '{"prompt": "a", "tag": "x"}')
    sources = [plain, rich]
    assert load_metadata([sources[i] for i in order]) == {"a": {"tag": "x"}}


def test_what_json_lacks_is_left_out() -> None:
    """Breaks if a date or a number that is none stops a request, or a nested one gets through."""
    kept = {"tag": "x", "boxes": [[0.5, 1]], "none": None}
    lost = {"date": datetime.date(2024, 1, 1), "bad": [float("nan")], "set": {"a": {1}}}
    assert json_values(kept | lost) == kept
