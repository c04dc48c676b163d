"""Read prompts from the usual kinds of files and visit them in a reproducible order."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from soc_ft.errors import ConfigError
from soc_ft.files import PACKAGE

PACKAGE_PREFIX = "package:"
DEFAULT_COLUMNS = ("prompt", "text")

_BETWEEN_ITEMS = re.compile(r"[\s,]*")

Located = tuple[str, Any]
"""Where an entry stands ("line 3", "item 0", ...) and the entry, not yet checked."""


def load_prompts(source: str, column: str | None = None, limit: int | None = None) -> list[str]:
    """Read prompts in the order of the source, surrounding white space removed.

    Args:
        source: a ``.json`` file (a list of strings or of objects), ``.jsonl`` (one string or
            object a line), ``.csv`` or ``.tsv`` (with a header), ``.txt`` (one prompt a line), a
            folder or an id of a Hugging Face dataset (``owner/name`` or ``owner/name:split``; the
            split is ``train`` unless given). ``package:`` in front resolves a file inside soc_ft.
        column: key or column that holds the prompt; ``prompt`` or else ``text`` if not given.
        limit: return the first ``limit`` prompts only.

    Raises:
        ConfigError: the source is missing, unreadable, malformed or empty, lacks the column, or
            holds something other than non-blank text.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit = {limit} (prompts of {source}): must be at least 1, or null")
    prompts = [
        _checked(entry, f"{source}, {place}", column) for place, entry in _entries(source, column)
    ]
    if not prompts:
        raise ConfigError(f"{source} holds no prompts: add at least one or choose another source")
    return prompts[:limit]


def given_prompts(
    given: str | Sequence[Any], column: str | None = None, limit: int | None = None
) -> list[str]:
    """Prompts as a command takes them: a list of them, or a source of :func:`load_prompts`.

    Args:
        given: prompts, or the name of a file or data set.
        column: as in :func:`load_prompts`.
        limit: use the first ``limit`` prompts of a source.

    Raises:
        ConfigError: the list is empty, or the source cannot be read.
    """
    if isinstance(given, str):
        return load_prompts(given, column, limit=limit)
    if not given:
        raise ConfigError("prompts=[]: give at least one prompt")
    return [str(prompt) for prompt in given]


class PromptOrder:
    """An endless order of prompts: every epoch visits each prompt once, shuffled anew.

    The prompt at a position depends on the position, the number of prompts and the seed only, so
    neither the batch size nor the number of ranks nor a resume changes what is visited.
    """

    def __init__(self, n_prompts: int, seed: int) -> None:
        """Choose an order; nothing is shuffled yet.

        Args:
            n_prompts: how many prompts there are, at least 1.
            seed: of the shuffling.

        Raises:
            ValueError: there are no prompts.
        """
        if n_prompts < 1:
            raise ValueError(f"n_prompts = {n_prompts}: must be at least 1")
        self.n_prompts = n_prompts
        self.seed = seed
        self._epoch = -1
        self._permutation: list[int] = []

    def index(self, position: int) -> int:
        """Index in [0, n_prompts) of the prompt at ``position`` >= 0, counted over all epochs."""
        epoch, place = divmod(position, self.n_prompts)
        if epoch < 0:
            raise ValueError(f"position = {position}: must not be negative")
        if epoch != self._epoch:
            self._permutation = sorted(range(self.n_prompts), key=lambda i: self._key(epoch, i))
            self._epoch = epoch
        return self._permutation[place]

    def _key(self, epoch: int, index: int) -> bytes:
        address = f"prompt order/{self.seed}/{epoch}/{index}"
        return blake2b(address.encode(), digest_size=16).digest()


def _entries(source: str, column: str | None) -> Iterator[Located]:
    path = _path(source)
    if path.is_file():
        read = _READERS.get(path.suffix.lower())
        if read is None:
            raise ConfigError(
                f"{source}: cannot tell the format from the ending {path.suffix!r}; "
                f"use one of {', '.join(_READERS)}"
            )
        yield from read(_text(path, source), source)
    elif path.is_dir() or _looks_like_dataset_id(source):
        yield from _dataset(source, path, column)
    else:
        raise ConfigError(
            f"{source}: there is no such file or folder (looked for {path.absolute()}); "
            "give a path, package:<path inside soc_ft>, or a Hugging Face dataset id"
        )


def _path(source: str) -> Path:
    if source.startswith(PACKAGE_PREFIX):
        return PACKAGE / source.removeprefix(PACKAGE_PREFIX)
    return Path(source).expanduser()


def _looks_like_dataset_id(source: str) -> bool:
    owner, slash, name = source.partition("/")
    return bool(
        slash
        and owner not in ("", ".", "..", "~")
        and not owner.startswith(PACKAGE_PREFIX)
        and name
        and "/" not in name
        and Path(name).suffix.lower() not in _READERS
    )


def _text(path: Path, source: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read ({error.strerror})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{source}, line {line}: is not UTF-8 text; save the file as UTF-8"
        ) from error


def _json(text: str, source: str) -> Iterator[Located]:
    if not text.strip():
        return
    entries = _parsed(text, source, first_line=1)
    if not isinstance(entries, list):
        raise ConfigError(
            f"{source}: holds {_kind(entries)} where a list of strings or of objects is expected "
            "(one object a line is the .jsonl format)"
        )
    lines = _lines_of_items(text)
    for number, entry in enumerate(entries):
        yield f"line {next(lines)}, item {number}", entry


def _lines_of_items(text: str) -> Iterator[int]:
    """The line on which each item of a valid JSON list begins."""
    decoder = json.JSONDecoder()
    line, place = 1, text.index("[") + 1
    line += text.count("\n", 0, place)
    while True:
        start = _BETWEEN_ITEMS.match(text, place).end()  # type: ignore[union-attr]
        line += text.count("\n", place, start)
        yield line
        _, place = decoder.raw_decode(text, start)
        line += text.count("\n", start, place)


def _json_lines(text: str, source: str) -> Iterator[Located]:
    for number, line in _lines(text):
        yield f"line {number}", _parsed(line, source, number) if line.strip() else ""


def _plain(text: str, source: str) -> Iterator[Located]:
    for number, line in _lines(text):
        yield f"line {number}", line


def _comma_separated(text: str, source: str) -> Iterator[Located]:
    return _table(text, source, ",")


def _tab_separated(text: str, source: str) -> Iterator[Located]:
    return _table(text, source, "\t")


def _table(text: str, source: str, delimiter: str) -> Iterator[Located]:
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in rows:
            place = f"line {rows.line_num}"
            if len(row) > len(rows.fieldnames or ()):
                raise ConfigError(
                    f"{source}, {place}: has more values than the header has columns; "
                    f'put a value that contains {delimiter!r} in "quotation marks"'
                )
            yield place, row
    except csv.Error as error:
        raise ConfigError(f"{source}, line {rows.line_num}: is not valid CSV ({error})") from error


_READERS: dict[str, Callable[[str, str], Iterator[Located]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _comma_separated,
    ".tsv": _tab_separated,
    ".txt": _plain,
}


def _lines(text: str) -> Iterable[tuple[int, str]]:
    """Numbered lines; blank ones at the end of a file carry no meaning and are left out."""
    return enumerate(text.rstrip().split("\n"), start=1) if text.strip() else ()


def _parsed(text: str, source: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise ConfigError(
            f"{source}, line {line}, column {error.colno}: is not valid JSON ({error.msg})"
        ) from error


def _dataset(source: str, path: Path, column: str | None) -> Iterator[Located]:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"{source}: reading a Hugging Face dataset needs the library `datasets`; install it, "
            f"or give a file ending in one of {', '.join(_READERS)}"
        ) from error
    identifier, _, split = (str(path), "", "") if path.is_dir() else source.partition(":")
    try:
        if path.is_dir() and (path / "state.json").is_file():
            table = datasets.load_from_disk(identifier)
        else:
            table = datasets.load_dataset(identifier, split=split or "train")
    except Exception as error:  # the library raises a dozen unrelated types
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{source}: neither a file nor a Hugging Face dataset that can be loaded ({reason})"
        ) from error
    name = _column(table.column_names, column, source)
    for number, value in enumerate(table[name]):
        yield f"row {number}, column {name!r}", value


def _checked(entry: Any, place: str, column: str | None) -> str:
    if isinstance(entry, Mapping):
        key = _column(list(entry), column, place)
        entry, place = entry[key], f"{place}, key {key!r}"
    if not isinstance(entry, str):
        raise ConfigError(f"{place}: holds {_kind(entry)} where a prompt (text) is expected")
    if not entry.strip():
        raise ConfigError(f"{place}: is a blank prompt; remove it or write one")
    return entry.strip()


def _column(available: list[str], column: str | None, place: str) -> str:
    wanted = DEFAULT_COLUMNS if column is None else (column,)
    for name in wanted:
        if name in available:
            return name
    raise ConfigError(
        f"{place}: has no {' or '.join(map(repr, wanted))}; available: "
        f"{', '.join(map(repr, available)) or 'nothing'}; set prompts.column (for soc_ft.evaluate: "
        "column) to one of them"
    )


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "nothing" if value is None else kinds.get(type(value), "a number")
