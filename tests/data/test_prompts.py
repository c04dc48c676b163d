"""Prompts are read from every usual format, and visited in a reproducible order."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from soc_ft.data.prompts import PromptOrder, given_prompts, load_prompts
from soc_ft.errors import ConfigError

PROMPTS = ["a red circle", 'a "large" star, on blue', "zwei grüne Kreuze"]
CSV = [prompt.replace('"', '""') for prompt in PROMPTS]
CASES = Path(__file__).parent / "cases"


def write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", json.dumps(PROMPTS)),
        ("p.json", json.dumps([{"prompt": p, "id": i} for i, p in enumerate(PROMPTS)])),
        ("p.json", json.dumps([{"text": p} for p in PROMPTS], indent=2, ensure_ascii=False)),
        ("p.jsonl", "\n".join(json.dumps(p) for p in PROMPTS)),
        ("p.jsonl", "".join(json.dumps({"text": p, "prompt": p}) + "\r\n" for p in PROMPTS)),
        ("p.csv", 'id,prompt\n1,a red circle\n2,"a ""large"" star, on blue"\n3,zwei grüne Kreuze'),
        ("p.tsv", 'text\na red circle\na "large" star, on blue\nzwei grüne Kreuze\n'),
        ("p.tsv", "text\tid\r" + "".join(f"{p}\t1\r" for p in PROMPTS)),
        (
            "p.csv",
            '\nid,text\n\n1,a red circle\n"2","a ""large"" star, on blue"\n \n3,zwei grüne Kreuze',
        ),
        ("p.csv", "prompt,picture\n" + "".join(f'"{p}",{"x" * 200_000}\n' for p in CSV)),
        ("p.txt", "\r".join(PROMPTS)),
        ("p.txt", "\n\n" + "\n \n\n".join(PROMPTS)),
        ("p.jsonl", "\n\n".join(json.dumps(p) for p in PROMPTS)),
        ("p.txt", "\n".join(PROMPTS)),
        ("p.TXT", "\r\n".join(PROMPTS) + "\r\n\r\n"),
        ("p.txt", "\ufeff  " + "  \n ".join(PROMPTS) + "\n"),
    ],
)
def test_formats(tmp_path: Path, name: str, text: str) -> None:
    """Breaks if a format, its quoting, line ends or byte-order mark is misread."""
    assert load_prompts(write(tmp_path / name, text)) == PROMPTS


def test_column_and_limit(tmp_path: Path) -> None:
    """Breaks if another column is read than the one asked for, or more than the limit."""
    source = write(tmp_path / "p.csv", "prompt,caption\na,b\nc,d\ne,f\n")
    assert load_prompts(source, column="caption") == ["b", "d", "f"]
    assert load_prompts(source, limit=2) == ["a", "c"]
    assert load_prompts(source, limit=99) == ["a", "c", "e"]
    with pytest.raises(ConfigError, match="limit = 0"):
        load_prompts(source, limit=0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", '["a",\n "b"\n "c"]', r"p\.json, line 3, column 2: is not valid JSON"),
        ("p.json", '{"prompts": ["a"]}', r"p\.json: holds an object where a list"),
        ("p.json", '["a", 3]', r"p\.json, line 1, item 1: holds a number where a prompt"),
        ("p.json", '[{"prompt": null}]', r"item 0, key 'prompt': holds nothing where"),
        ("p.json", '["a", "  "]', r"p\.json, line 1, item 1: is a blank prompt"),
        (
            "p.json",
            '\n[\n {"prompt": "a\\n"},\n\n {"prompt":\n  "b"}, {"prompt": 3}]',
            r"p\.json, line 6, item 2, key 'prompt': holds a number",
        ),
        ("p.json", '[{"id": 1, "title": "a"}]', r"item 0: has no 'prompt' or 'text'; .*'title'"),
        ("p.json", "[]", r"p\.json holds no prompts"),
        ("p.json", "", r"p\.json holds no prompts"),
        ("p.jsonl", '"a"\n{"prompt": b}\n', r"p\.jsonl, line 2, column 12: is not valid JSON"),
        ("p.jsonl", '"a"\n\n" "\n', r"p\.jsonl, line 3: is a blank prompt"),
        ("p.json", '{"a cat": 1}', r'holds an object where .*\["a red cup"\] or \[{"prompt"'),
        ("p.json", "[" * 200_000, r"p\.json, line 1: cannot be read"),
        ("p.json", f"[{'1' * 5000}]", r"p\.json, line 1: cannot be read"),
        ("p.json", r'["\ud800"]', r"item 0: holds half a character"),
        ("p.csv", "", r"p\.csv holds no prompts"),
        ("p.csv", "prompt\n", r"p\.csv holds no prompts"),
        ("p.csv", "id,title\n1,a\n", r"p\.csv, line 2: has no 'prompt' or 'text'; .*'id', 'title'"),
        ("p.csv", "prompt\na cat, sitting\n", r"line 2: has more values than .*quotation marks"),
        ("p.csv", "id,prompt\n1,a\n2\n", r"line 3, key 'prompt': holds nothing"),
        ("p.csv", 'prompt\n\n"a\nb\n', r"p\.csv, line 3: is not valid CSV"),
        ("p.csv", 'prompt\n"a\nb"\n"STOP" sign\n', r"p\.csv, line 4: is not valid CSV"),
        ("p.csv", 'id,prompt\n1,"a\n\nb"\n2,\n', r"p\.csv, line 5, key 'prompt': is a blank"),
        ("p.tsv", "prompt\na\tcat\n", r"line 2: has more values than .*tab stops"),
        ("p.tsv", "id\tprompt\n\n1\n", r"p\.tsv, line 3, key 'prompt': holds nothing"),
        ("p.txt", b"a\rb\r\xff\xfe\r", r"p\.txt, line 3: is not UTF-8"),
        ("p.txt", b"a\nb\n\xff\xfe\n", r"p\.txt, line 3: is not UTF-8"),
        ("p.txt", "\n \n", r"p\.txt holds no prompts"),
        ("p.yaml", "- a\n", r"p\.yaml: cannot tell the format .*\.jsonl"),
    ],
)
def test_mistakes_are_one_line_that_says_where(
    tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    """Breaks if a mistake is passed over, or its message lacks the file, the place or the key."""
    with pytest.raises(ConfigError, match=message) as caught:
        load_prompts(write(tmp_path / name, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "prompts"),
    [
        ("quotes.tsv", ["a red cup on a table", '"STOP" on a sign', "a dog that runs"]),
        ("blank_lines.txt", ["a red cup on a table", "a dog that runs"]),
        ("blank_lines.jsonl", ["a red cup on a table", "a dog that runs"]),
        ("mac_line_ends.txt", ["a red cup on a table", "a dog that runs"]),
    ],
)
def test_files_that_people_have(name: str, prompts: list[str]) -> None:
    """Breaks if one format is read with the rules of another."""
    assert load_prompts(str(CASES / name)) == prompts


@pytest.mark.parametrize("name", ["p.txt", "p.csv", "p.tsv", "p.json", "p.jsonl"])
def test_a_file_without_line_ends_is_answered_at_once(tmp_path: Path, name: str) -> None:
    """Breaks if ten million letters are tokenized or drawn as a prompt, or stand in the message."""
    entries = {".json": '["{}"]', ".jsonl": '"{}"', ".txt": "{}"}
    text = entries.get(Path(name).suffix, "prompt\n{}").format("word " * 2_000_000)
    began = time.monotonic()
    with pytest.raises(ConfigError, match="characters long, which is no prompt") as caught:
        load_prompts(write(tmp_path / name, text))
    assert time.monotonic() - began < 5
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "a cat, sitting",
        "a dog's bone (big)!",
        '[macro] a "STOP" sign, {red}',
        "a cat/dog hybrid",
        "w" * 9000,
        "either/or, and so on.",
    ],
)
def test_a_bare_text_is_one_prompt(text: str) -> None:
    """Breaks if a prompt is taken for a file, a list, or several."""
    assert given_prompts(text) == [text]


def test_a_list_is_a_list_and_a_file_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if the name of a file, misspelt or not, becomes a prompt."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my prompts.txt", "a\nb\nc")
    assert given_prompts("my prompts.txt", limit=2) == ["a", "b"]
    assert given_prompts(["my prompts.txt", "b "], limit=1) == ["my prompts.txt", "b"]
    for source in ("my promts.txt", "package:nothing", "/data/prompts", "./prompts"):
        with pytest.raises(ConfigError, match="no such file"):
            given_prompts(source)
    for wrong, said in (([], "at least one"), (["a", True], r"prompts\[1\]: holds a boolean")):
        with pytest.raises(ConfigError, match=said):
            given_prompts(wrong)


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    """Breaks if a misspelt column falls back on another."""
    source = write(tmp_path / "p.csv", "prompt,caption\na,b\n")
    with pytest.raises(ConfigError, match=r"no 'captoin'; available: 'prompt', 'caption'"):
        load_prompts(source, column="captoin")


@pytest.mark.parametrize("source", ["nothing.txt", "package:nothing.txt", "../nothing", "nothing"])
def test_a_missing_file_is_named_with_where_it_was_looked_for(source: str) -> None:
    """Breaks if a wrong path is taken for the id of a data set."""
    with pytest.raises(ConfigError, match=r"no such file or folder \(looked for /.*nothing"):
        load_prompts(source)


@pytest.mark.parametrize("kind", ["saved", "files"])
def test_a_folder_of_a_data_set_is_read(tmp_path: Path, kind: str) -> None:
    """Breaks if a local data set, saved or of plain files, is read otherwise than from the hub."""
    import datasets

    datasets.disable_progress_bars()
    datasets.config.HF_DATASETS_CACHE = tmp_path / "cache"
    folder = tmp_path / "set"
    if kind == "saved":
        datasets.Dataset.from_dict({"caption": PROMPTS}).save_to_disk(folder)
    else:
        folder.mkdir()
        write(folder / "train.jsonl", "\n".join(json.dumps({"caption": p}) for p in PROMPTS))
    assert load_prompts(str(folder), column="caption") == PROMPTS
    with pytest.raises(ConfigError, match=r"set: has no 'title'; available: 'caption'"):
        load_prompts(str(folder), column="title")


def test_a_folder_of_everything_is_no_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a run searches somebody's home for minutes instead of saying what is wrong."""
    monkeypatch.setattr("soc_ft.data.prompts.MOST_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(ConfigError, match="holds more than 3 files, which is no dataset"):
        load_prompts(str(tmp_path))


def test_a_data_set_without_its_library_says_what_to_install(tmp_path: Path) -> None:
    """Breaks if the optional library becomes a requirement, or its absence a traceback."""
    script = """
import sys
sys.modules["datasets"] = None
from soc_ft.data.prompts import load_prompts
from soc_ft.errors import ConfigError
for source in ("owner/name:validation", sys.argv[1]):
    try:
        load_prompts(source)
    except ConfigError as error:
        assert "`datasets`" in str(error), error
        print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["refused", "refused"]


def test_reading_prompts_loads_nothing_heavy() -> None:
    """Breaks if checking a configuration takes seconds because prompts import torch."""
    script = (
        "import sys; from soc_ft.data.prompts import load_prompts;"
        "load_prompts('package:data/prompts_train.txt');"
        "assert not {'torch', 'numpy', 'datasets', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_default_prompts_are_many_different_and_held_out() -> None:
    """Breaks if the shipped lists repeat a prompt, overlap, or one exceeds CLIP's 77 tokens."""
    train = load_prompts("package:data/prompts_train.txt")
    validation = load_prompts("package:data/prompts_validation.txt")
    assert (len(train), len(validation)) == (300, 64)
    assert max(Counter(p.lower() for p in train + validation).values()) == 1
    assert max(len(p.split()) for p in train + validation) < 30


def test_every_epoch_visits_each_prompt_once_in_another_order() -> None:
    """Breaks if prompts are drawn with replacement, left out, or an epoch repeats another."""
    order = PromptOrder(50, seed=3)
    epochs = [[order.index(50 * e + i) for i in range(50)] for e in range(4)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, list(range(50))]}) == 5


def test_the_order_depends_on_position_and_seed_alone() -> None:
    """Breaks if asking out of order, or from another rank, changes the answer."""
    order = PromptOrder(7, seed=1)
    forward = [order.index(i) for i in range(30)]
    assert [PromptOrder(7, seed=1).index(i) for i in reversed(range(30))] == forward[::-1]
    assert [order.index(i) for i in range(0, 30, 3)] == forward[::3]
    assert [PromptOrder(7, seed=2).index(i) for i in range(30)] != forward


def test_the_order_never_changes_between_versions() -> None:
    """Breaks if a run resumed with a newer soc_ft or Python would visit other prompts."""
    order = PromptOrder(5, seed=0)
    assert [order.index(i) for i in range(10)] == [0, 2, 4, 3, 1, 0, 3, 2, 1, 4]


def test_every_place_in_an_epoch_is_equally_likely() -> None:
    """Breaks if the shuffle is biased: 10 prompts, 2000 epochs, expected 200 +- 13 each."""
    order = PromptOrder(10, seed=5)
    first = Counter(order.index(10 * epoch) for epoch in range(2000))
    assert all(abs(first[i] - 200) < 60 for i in range(10))


def test_impossible_orders_are_refused() -> None:
    """Breaks if an empty list of prompts ends in a division by zero far from its cause."""
    with pytest.raises(ValueError, match="n_prompts"):
        PromptOrder(0, seed=0)
    with pytest.raises(ValueError, match="position"):
        PromptOrder(3, seed=0).index(-1)
