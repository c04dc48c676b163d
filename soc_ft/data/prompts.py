"""Read prompts from the usual kinds of files and visit them in a reproducible order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from soc_ft.data.formats import SUFFIXES, Located, kind_of, read_entries
from soc_ft.data.metadata import Metadata, by_prompt
from soc_ft.errors import ConfigError
from soc_ft.files import PACKAGE_PREFIX, package_path

DEFAULT_COLUMNS = ("prompt", "text")

_LONGEST_PATH = 1024
LONGEST_PROMPT = 10_000
"""Characters. More are no prompt but a file without line ends, or of another kind."""
MOST_FILES = 10_000
"""Of a dataset's folder. One with more is somebody's home, and would be searched for minutes."""


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
        _parted(entry, place, column)[0] for place, entry in _entries(source, column, whole=False)
    ]
    if not prompts:
        raise ConfigError(f"{source} holds no prompts: add at least one or choose another source")
    return prompts[:limit]


def load_metadata(sources: Iterable[str], column: str | None = None) -> Metadata:
    """What sources of prompts say beside them: the further keys or columns, by prompt.

    Args:
        sources: as of :func:`load_prompts`.
        column: as in :func:`load_prompts`.

    Raises:
        ConfigError: as :func:`load_prompts`, or a prompt has different metadata in two places.
    """
    return by_prompt(
        (place, *_parted(entry, place, column))
        for source in dict.fromkeys(sources)
        for place, entry in _entries(source, column, whole=True)
    )


def in_turn(groups: Sequence[Sequence[str]]) -> list[str]:
    """The first of each group, then the second of each, and so on: the first few are of all."""
    return [each for turn in zip_longest(*groups) for each in turn if each is not None]


def given_prompts(
    given: str | Sequence[Any], column: str | None = None, limit: int | None = None
) -> list[str]:
    """Prompts as a command takes them: one, a list of them, or a source of :func:`load_prompts`.

    Args:
        given: a prompt, prompts, or the name of a file or data set.
        column: as in :func:`load_prompts`.
        limit: use the first ``limit`` prompts of a source.

    Raises:
        ConfigError: the list is empty or holds something else, or the source cannot be read.
    """
    if isinstance(given, str) and is_source(given):
        return load_prompts(given, column, limit=limit)
    entries = [given] if isinstance(given, str) else list(given)
    if not entries:
        raise ConfigError("prompts=[]: give at least one prompt")
    return [_parted(entry, f"prompts[{number}]", None)[0] for number, entry in enumerate(entries)]


def given_metadata(given: str | Sequence[Any], column: str | None = None) -> Metadata:
    """What is said of the prompts of :func:`given_prompts` beside their text; arguments as there.

    Raises:
        ConfigError: they cannot be read, or one has different metadata in two places.
    """
    if isinstance(given, str) and is_source(given):
        return load_metadata([given], column)
    return {prompt: {} for prompt in given_prompts(given)}


def is_source(text: str) -> bool:
    """Whether a text names a file or data set rather than being a prompt.

    It does if there is such a file, and also if it can hardly be anything else: a path without
    blanks, or a name with the ending of a file that can be read. So a name that is misspelt is no
    prompt.
    """
    if len(text) > _LONGEST_PATH or "\0" in text or "\n" in text:
        return False
    if text.startswith(PACKAGE_PREFIX) or Path(text).suffix.lower() in SUFFIXES:
        return True
    blanks = any(letter.isspace() for letter in text)
    return bool(text) and (os.path.exists(package_path(text)) or ("/" in text and not blanks))


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


def _entries(source: str, column: str | None, *, whole: bool) -> Iterator[Located]:
    """Entries of a source; ``whole``: with what they hold beside the prompt, which may be large."""
    path = package_path(source)
    if os.path.isfile(path):
        found = read_entries(path, source)
    elif os.path.isdir(path) or _looks_like_dataset_id(source):
        found = _dataset(source, path, column, whole)
    else:
        raise ConfigError(
            f"{source}: there is no such file or folder (looked for {path.absolute()}); "
            "give a path, package:<path inside soc_ft>, or a Hugging Face dataset id"
        )
    for place, entry in found:
        yield f"{source}, {place}", entry


def _looks_like_dataset_id(source: str) -> bool:
    owner, slash, name = source.partition("/")
    return bool(
        slash
        and owner not in ("", ".", "..", "~")
        and not owner.startswith(PACKAGE_PREFIX)
        and name
        and "/" not in name
        and Path(name).suffix.lower() not in SUFFIXES
    )


def _dataset(source: str, path: Path, column: str | None, whole: bool) -> Iterator[Located]:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"{source}: reading a Hugging Face dataset needs the library `datasets`; install it, "
            f"or give a file ending in one of {', '.join(SUFFIXES)}"
        ) from error
    if sum(1 for _ in islice(path.rglob("*"), MOST_FILES + 1)) > MOST_FILES:
        raise ConfigError(
            f"{source}: holds more than {MOST_FILES} files, which is no dataset; name the folder "
            "or the file that holds the prompts"
        )
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
    for number, row in enumerate(table if whole else table.select_columns([name])):
        yield f"row {number}", row


def _parted(entry: Any, place: str, column: str | None) -> tuple[str, dict[str, Any]]:
    """The prompt of an entry, checked, and what else the entry holds."""
    further: dict[str, Any] = {}
    if isinstance(entry, Mapping):
        key = _column(list(entry), column, place)
        further = {other: value for other, value in entry.items() if other != key}
        entry, place = entry[key], f"{place}, key {key!r}"
    if not isinstance(entry, str):
        raise ConfigError(f"{place}: holds {kind_of(entry)} where a prompt (text) is expected")
    if not entry.strip():
        raise ConfigError(f"{place}: is a blank prompt; remove it or write one")
    if len(entry) > LONGEST_PROMPT:
        raise ConfigError(
            f"{place}: is {len(entry)} characters long, which is no prompt (at most "
            f"{LONGEST_PROMPT}); write one prompt a line"
        )
    if not entry.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in entry):
        raise ConfigError(f"{place}: holds half a character (a lone surrogate); remove it")
    return entry.strip(), further


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
