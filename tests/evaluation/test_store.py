"""Pictures are found again under everything that decides them, and under nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soc_ft.evaluation.store import PictureStore, digest_of, fingerprint
from soc_ft.models.availability import Source

PROMPTS = ["a cat", "a dog"]
PICTURE = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)


def test_what_was_saved_is_no_longer_missing(tmp_path: Path) -> None:
    """Breaks when an interrupted evaluation starts over, or skips a picture."""
    store = PictureStore(tmp_path, {"eta": 1.0})
    assert store.missing(PROMPTS, 2) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    store.save((1, 0), PROMPTS[1], PICTURE)
    assert PictureStore(tmp_path, {"eta": 1.0}).missing(PROMPTS, 2) == [(0, 0), (0, 1), (1, 1)]
    saved = np.asarray(Image.open(store.paths(PROMPTS, 2)[1][0]))
    assert (saved == PICTURE.transpose(1, 2, 0)).all()


def test_more_prompts_and_pictures_reuse_the_first(tmp_path: Path) -> None:
    """Breaks when a larger evaluation makes again what a smaller one made."""
    store = PictureStore(tmp_path, {})
    for place in store.missing(PROMPTS[:1], 2):
        store.save(place, PROMPTS[place[0]], PICTURE)
    assert store.missing(PROMPTS, 3) == [(0, 2), (1, 0), (1, 1), (1, 2)]


def test_other_settings_or_prompts_are_other_pictures(tmp_path: Path) -> None:
    """Breaks when pictures of another seed, schedule or prompt are passed off as these."""
    store = PictureStore(tmp_path, {"eta": 1.0, "seed": 0})
    store.save((0, 0), "a cat", PICTURE)
    assert PictureStore(tmp_path, {"seed": 0, "eta": 1.0}).missing(["a cat"], 1) == []
    assert PictureStore(tmp_path, {"eta": 0.0, "seed": 0}).missing(["a cat"], 1) == [(0, 0)]
    assert store.missing(["a car"], 1) == [(0, 0)]


def model_folder(folder: Path, weights: bytes = b"weights") -> Path:
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text("{}")
    for part in ("unet", "vae", "text_encoder"):
        (folder / part / "model.safetensors").write_bytes(weights)
    return folder


def test_a_model_is_known_by_its_contents(tmp_path: Path) -> None:
    """Breaks when a copied model samples everything anew, or a retrained one passes for the old."""
    first, copy = model_folder(tmp_path / "first"), model_folder(tmp_path / "copy")
    os.utime(copy / "unet" / "model.safetensors", (0, 0))
    other = model_folder(tmp_path / "other", b"retrained")
    print_of = {path: fingerprint(Source("folder", str(path))) for path in (first, copy, other)}
    assert print_of[first] == print_of[copy] != print_of[other]
    (first / "unet" / "model.fp16.safetensors").write_bytes(b"half")
    (first / "README.md").write_text("not loaded")
    assert fingerprint(Source("folder", str(first))) == print_of[first]
    assert fingerprint(Source("folder", str(first)), "fp16") != print_of[first]
    (first / "scheduler" / "config.json").write_text('{"beta_start": 1}')
    assert fingerprint(Source("folder", str(first))) != print_of[first]


def test_files_and_architectures_have_fingerprints(tmp_path: Path) -> None:
    """Breaks when a single-file checkpoint or random weights cannot be evaluated."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"all in one")
    assert fingerprint(Source("file", str(file))) == digest_of([file])
    assert fingerprint(Source("random", "tiny")) == "tiny"


def test_a_picture_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a process that is killed while it writes leaves half a picture behind."""
    store = PictureStore(tmp_path, {})
    store.save((0, 0), "a cat", PICTURE)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.save((0, 1), "a cat", PICTURE)
    assert store.missing(["a cat"], 2) == [(0, 1)]
