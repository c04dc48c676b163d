"""Missing weights are answered in one line, before anything heavy loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from soc_ft.errors import ConfigError
from soc_ft.models.availability import (
    Source,
    check_available,
    locate,
    picture_size,
    variant_in,
    variant_of,
)
from tests.conftest import write_weights

REMEDIES = ("model.path=/folder", "model.path=/file.safetensors", "experiment=quickstart")


CONFIGS = {
    "unet": {"sample_size": 8},
    "vae": {},
    "text_encoder": {"vocab_size": 3},
    "scheduler": {"_class_name": "PNDMScheduler", "steps_offset": 1},
    "tokenizer": {"model": {"vocab": {"a": 0, "b": 1, "c": 2}}},
}


def write_folder(folder: Path, class_name: str = "StableDiffusionPipeline") -> Path:
    """A diffusers folder as far as its files' names and settings go."""
    for part, config in CONFIGS.items():
        (folder / part).mkdir(parents=True)
        names = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer.json"}
        (folder / part / names.get(part, "config.json")).write_text(json.dumps(config))
        if part in ("unet", "vae", "text_encoder"):
            write_weights(folder / part / "model.safetensors")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    return folder


def message(path: str | None, **arguments: str) -> str:
    with pytest.raises(ConfigError) as error:
        check_available({"path": path, **arguments})
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_there_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a complete folder, file or architecture is refused or mistaken for another."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = write_folder(tmp_path / "sd")
    assert locate(str(folder)) == locate("~/sd") == Source("folder", str(folder))
    for file in (tmp_path / "sd.safetensors", tmp_path / "sd.ckpt"):
        file.touch()
        assert locate(str(file)) == Source("file", str(file))
    assert locate("random:tiny") == Source("random", "tiny")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{tmp}/absent", "there is no folder"),
        ("{tmp}/absent.safetensors", "there is no file"),
        ("{tmp}/absent.ckpt", "there is no file"),
        ("{tmp}/empty", "no model_index.json"),
        ("{tmp}/no unet", "no unet/unet has no weights"),
        ("{tmp}/no vae", "no vae/vae has no weights"),
        ("{tmp}/no text_encoder", "no text_encoder/text_encoder has no weights"),
    ],
)
def test_what_is_missing_is_named_with_three_remedies(tmp_path: Path, path: str, said: str) -> None:
    """Breaks if a message does not say what was looked for, where, and what to do."""
    (tmp_path / "empty").mkdir()
    for part in ("unet", "vae", "text_encoder"):
        (write_folder(tmp_path / f"no {part}") / part / "model.safetensors").unlink()
    path = path.format(tmp=tmp_path)
    text = message(path)
    assert f"model.path={path}" in text
    assert said in text
    assert "hf download OWNER/NAME" in text
    assert all(remedy in text for remedy in REMEDIES)


def test_missing_embedded_model() -> None:
    """Breaks if a damaged installation is told to use what it lacks."""
    text = message("embedded:nothing")
    assert "nothing-diffusion" in text
    assert "reinstall" in text


def test_missing_variant(tmp_path: Path) -> None:
    """Breaks if half-precision files that are not there are noticed only while loading."""
    folder = write_folder(tmp_path / "sd")
    assert "variant fp16" in message(str(folder), variant="fp16")
    for part in ("unet", "vae", "text_encoder"):
        (folder / part / "model.safetensors").rename(folder / part / "model.fp16.safetensors")
    check_available({"path": str(folder), "variant": "fp16"})
    assert "only of fp16" in message(str(folder))
    (folder / "vae" / "model.fp16.safetensors").rename(folder / "vae" / "model.safetensors")
    check_available({"path": str(folder), "variant": "fp16"})


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("shard", ["", "-00001-of-00002"])
def test_names_of_weight_files(
    tmp_path: Path, variant: str | None, suffix: str, shard: str
) -> None:
    """Breaks if weights in several files, or in PyTorch's own format, count for none."""
    folder = write_folder(tmp_path / "sd")
    name = f"model{'.' if variant else ''}{variant or ''}{shard}.{suffix}"
    file = (folder / "unet" / "model.safetensors").rename(folder / "unet" / name)
    assert variant_of(file) == (variant or "")
    assert variant_in(file.parent, variant) == variant
    assert variant_in(file.parent, "fp8") is None
    assert locate(str(folder), variant=variant) == Source("folder", str(folder))


def test_other_files_beside_the_weights(tmp_path: Path) -> None:
    """Breaks if the state of an optimizer passes for weights."""
    folder = write_folder(tmp_path / "sd")
    (folder / "unet" / "optimizer.safetensors").write_bytes(b"no weights")
    check_available({"path": str(folder)})


def test_a_folder_whose_name_looks_like_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if the hub is asked for what lies in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_folder(Path("someone/some-model"))
    assert locate("someone/some-model") == Source("folder", "someone/some-model")


def test_variant_of_the_embedded_model() -> None:
    """Breaks if a variant that the package does not have is noticed only while loading."""
    assert locate("embedded:shapes").kind == "folder"
    assert "no weights of variant fp8" in message("embedded:shapes", variant="fp8")


def test_size_of_pictures(tmp_path: Path) -> None:
    """Breaks if a reward is tried on pictures of another size than the model makes."""
    folder = write_folder(tmp_path / "sd")
    assert picture_size(str(folder)) == 512  # its autoencoder does not say
    (folder / "vae" / "config.json").write_text('{"block_out_channels": [8, 8, 8]}')
    assert picture_size(str(folder)) == 8 * 4
    assert picture_size("random:tiny") == 16
    assert picture_size("random:nothing") == picture_size(str(tmp_path / "absent")) == 512


def test_other_pipelines_are_refused(tmp_path: Path) -> None:
    """Breaks if a Stable Diffusion XL is accepted and fails in the middle of a run."""
    folder = write_folder(tmp_path / "xl", "StableDiffusionXLPipeline")
    assert "StableDiffusionXLPipeline" in message(str(folder))
    for content in ("no json", "[]"):
        (folder / "model_index.json").write_text(content)
        assert "not a diffusers index" in message(str(folder))


@pytest.mark.parametrize(("latents", "size"), [(8, 32), ([8, 16], 64), (None, 512)])
def test_the_size_of_pictures_is_read_from_the_files(
    tmp_path: Path, latents: object, size: int
) -> None:
    """Breaks if rewards are tried on pictures of another size than the model's."""
    folder = write_folder(tmp_path / "sd")
    (folder / "unet" / "config.json").write_text(json.dumps({"sample_size": latents}))
    (folder / "vae" / "config.json").write_text(json.dumps({"block_out_channels": [1, 2, 4]}))
    assert picture_size(str(folder)) == size


@pytest.mark.parametrize("path", [None, ""])
def test_empty_path(path: str | None) -> None:
    """Breaks if an empty path is taken for the current folder."""
    assert "model.path" in message(path)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of a hub that cannot be reached."""
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def cache_snapshot(cache: Path, repository: str, commit: str) -> Path:
    """The folder in which the hub's client keeps a commit, with main pointing to it."""
    home = cache / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    return home / "snapshots" / commit


def test_hub_id_offline(hub_cache: Path) -> None:
    """Breaks if a hub id without cache and network is not answered at once."""
    text = message("someone/some-model", revision="abc")
    assert "HF_HUB_OFFLINE" in text
    assert "revision abc" in text
    assert "hf download someone/some-model" in text
    assert str(hub_cache) in text
    assert all(remedy in text for remedy in REMEDIES)


def test_cached_hub_id_needs_no_network(hub_cache: Path) -> None:
    """Breaks if a downloaded model asks the hub again, or a half-downloaded one passes."""
    commit = "1" * 40
    folder = write_folder(cache_snapshot(hub_cache, "someone/some-model", commit))
    assert locate("someone/some-model") == Source("folder", str(folder))
    assert locate("someone/some-model", revision=commit) == Source("folder", str(folder))
    (folder / "unet" / "model.safetensors").unlink()
    assert "unet has no weights" in message("someone/some-model")


def test_revisions_and_variants_in_the_cache(hub_cache: Path) -> None:
    """Breaks if another commit or other files are used than the ones that are named."""
    repository, commits = "someone/some-model", ("1" * 40, "2" * 40, "3" * 40)
    main = write_folder(cache_snapshot(hub_cache, repository, commits[0]))
    half = write_folder(main.parent / commits[1])
    write_folder(main.parent / commits[2], "StableDiffusionXLPipeline")
    for part in ("unet", "vae", "text_encoder"):
        (half / part / "model.safetensors").rename(half / part / "model.fp16.safetensors")
    assert locate(repository) == Source("folder", str(main))
    assert locate(repository, commits[1], "fp16") == Source("folder", str(half))
    check_available({"path": repository, "revision": commits[1], "variant": "fp16"})
    assert "only of fp16" in message(repository, revision=commits[1])
    assert "variant fp16" in message(repository, variant="fp16")
    assert "StableDiffusionXLPipeline" in message(repository, revision=commits[2])


def test_size_of_pictures_of_a_revision(hub_cache: Path) -> None:
    """Breaks if a reward is tried on pictures of the main branch's size."""
    main = write_folder(cache_snapshot(hub_cache, "someone/some-model", "1" * 40))
    other = write_folder(main.parent / ("2" * 40))
    for folder, size in ((main, 8), (other, 24)):
        (folder / "unet" / "config.json").write_text(json.dumps({"sample_size": size}))
        (folder / "vae" / "config.json").write_text('{"block_out_channels": [8, 8]}')
    assert picture_size("someone/some-model") == 16
    assert picture_size("someone/some-model", "2" * 40) == 48


def test_the_hub_is_asked_for_the_revision(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a revision that does not exist is taken for the main branch."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        "soc_ft.models.availability.obstacle", lambda *arguments: asked.append(arguments)
    )
    assert locate("someone/some-model", "v2") == Source("hub", "someone/some-model")
    assert asked == [("someone/some-model", "model_index.json", "v2")]


def test_silent_hub_does_not_block(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a network that swallows packets delays the answer beyond its time limit."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("soc_ft.hub.HUB_TIMEOUT", 0.2)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: time.sleep(2))
    start = time.monotonic()
    text = message("someone/some-model")
    assert time.monotonic() - start < 1
    assert "did not answer within 0.2 seconds" in text


def test_answers_without_heavy_imports(tmp_path: Path) -> None:
    """Breaks if checking a configuration takes the seconds that torch needs to import."""
    program = (
        "import sys\n"
        "from soc_ft.errors import ConfigError\n"
        "from soc_ft.models.finetune import LoRA\n"
        "from soc_ft.models.loading import load_model\n"
        "from soc_ft.models.availability import check_available, picture_size\n"
        "assert picture_size('random:tiny') == 16\n"
        "try:\n"
        "    check_available({'path': 'someone/some-model'})\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'peft'} & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    said, modules = run.stdout.splitlines()
    assert "HF_HUB_OFFLINE" in said
    assert modules == "[]"
