"""What people are shown, and how what they said is read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from soc_ft.errors import AwaitingAnswers, ConfigError
from soc_ft.feedback.options import People
from soc_ft.feedback.people import answers_of_people, write_pictures

SCORES, PAIRS = People(kind="scores"), People(kind="pairs")
PROMPTS = ["a red </script> cup", "a red </script> cup", "a dog", "a dog"]


def said(folder: Path, answers: Any, kind: str = "scores", stage: int = 1) -> None:
    content = {"stage": stage, "kind": kind, "answers": answers}
    (folder / "labels.json").write_text(json.dumps(content))


def test_the_page_names_every_picture_and_no_prompt_ends_its_script(tmp_path: Path) -> None:
    """Breaks if a picture or a prompt is missing, or a prompt is code."""
    write_pictures(tmp_path, [0, 1, 2, 3], torch.rand(4, 3, 8, 8))
    with pytest.raises(AwaitingAnswers, match=r"4 pictures wait for people.*index\.html"):
        answers_of_people(tmp_path, PROMPTS, 0, SCORES)
    page = (tmp_path / "index.html").read_text()
    (content,) = re.findall(r"const content = (\{.*\});", page)
    shown = json.loads(content)
    assert [each["prompt"] for each in shown["pictures"]] == PROMPTS
    for each in shown["pictures"]:
        assert Image.open(tmp_path / each["file"]).size == (8, 8)
    assert page.count("</script>") == 1


def test_marks_and_choices_become_numbers(tmp_path: Path) -> None:
    """Breaks if answers are read in the order of the file, or a choice is worth the opposite."""
    said(tmp_path, {"3": 5, "0": 1, "2": 4, "1": 2})
    assert answers_of_people(tmp_path, PROMPTS, 0, SCORES).tolist() == [1, 2, 4, 5]
    said(tmp_path, {"1": "equal", "0": "right"}, kind="pairs")
    assert answers_of_people(tmp_path, PROMPTS, 0, PAIRS).tolist() == [-1, 1, 0, 0]


@pytest.mark.parametrize(
    ("answers", "kind", "stage", "told"),
    [
        ({"0": 1, "2": 3}, "scores", 1, "2 of 4 answers are missing, the first is 2"),
        ({"0": 1, "1": 6, "2": 3, "3": 3}, "scores", 1, "answer 2 is 6"),
        ({"0": 1, "1": True, "2": 3, "3": 3}, "scores", 1, "answer 2 is true"),
        ({"0": 1, "1": {"a": 1}, "2": 3, "3": 3}, "scores", 1, "answer 2 is"),
        ({"0": "left"}, "pairs", 1, "holds no scores of stage 1"),
        ({}, "scores", 2, "holds no scores of stage 1"),
        ([1, 2, 3, 4], "scores", 1, "holds no scores"),
    ],
)
def test_what_the_page_did_not_save_is_refused_in_one_line(
    answers: Any, kind: str, stage: int, told: str, tmp_path: Path
) -> None:
    """Breaks if a wrong file becomes a traceback, or trains a run on something else."""
    said(tmp_path, answers, kind, stage)
    with pytest.raises(ConfigError, match=told):
        answers_of_people(tmp_path, PROMPTS, 0, SCORES)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"stage": 1}', "\udcff"])
def test_a_damaged_file_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    """Breaks if reading raises something that no person understands."""
    (tmp_path / "labels.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match="is not what the page saves"):
        answers_of_people(tmp_path, PROMPTS, 0, SCORES)
