"""Models whose files are incomplete or do not fit each other are refused before torch loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from safetensors.torch import save_file
from torch import zeros

from soc_ft.errors import ConfigError
from soc_ft.models.availability import check_available
from soc_ft.models.noise_schedule import SCHEDULERS
from tests.conftest import write_weights
from tests.models.test_availability import write_folder


def edited(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file, or make one."""
    config = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(config | changes))


def refusal(*schedule: Any, **settings: Any) -> str:
    with pytest.raises(ConfigError) as error:
        check_available(settings, *schedule)
    assert "\n" not in str(error.value)
    return str(error.value)


def old_layout(tokenizer: Path, **vocabulary: int) -> None:
    """Keep a tokenizer in the files that it had before ``tokenizer.json``."""
    (tokenizer / "tokenizer.json").unlink()
    (tokenizer / "merges.txt").touch()
    edited(tokenizer / "vocab.json", **vocabulary)


Change = Callable[[Path], object]

DAMAGES: dict[str, tuple[Change, str]] = {
    "no tokenizer": (lambda f: (f / "tokenizer/tokenizer.json").unlink(), "{f}/tokenizer has no"),
    "half a tokenizer": (
        lambda f: (f / "tokenizer/tokenizer.json").rename(f / "tokenizer/vocab.json"),
        "{f}/tokenizer has no tokenizer",
    ),
    "added token": (
        lambda f: edited(f / "tokenizer/added_tokens.json", **{"<new>": 3}),
        "knows 3 tokens, .* 1 more (<new>)",
    ),
    "added token of a fast tokenizer": (
        lambda f: edited(
            f / "tokenizer/tokenizer.json", added_tokens=[{"id": 7, "content": "<n>"}]
        ),
        "1 more (<n>)",
    ),
    "added token in the settings": (
        lambda f: edited(
            f / "tokenizer/tokenizer_config.json", added_tokens_decoder={"3": {"content": "<m>"}}
        ),
        "1 more (<m>)",
    ),
    "tokens beyond in a fast tokenizer": (
        lambda f: edited(f / "tokenizer/tokenizer.json", model={"vocab": {"a": 0, "z": 3}}),
        "1 more (z)",
    ),
    "tokens beyond in the old layout": (
        lambda f: old_layout(f / "tokenizer", a=0, b=9, c=8, d=7, e=6),
        "knows 3 tokens, .* 4 more (b, c, d); take",
    ),
    "no size": (lambda f: edited(f / "unet/config.json", sample_size=None), "sample_size=null"),
    "odd size": (lambda f: edited(f / "unet/config.json", sample_size="8"), 'sample_size="8"'),
    "no width": (
        lambda f: edited(f / "unet/config.json", sample_size=[8, 0]),
        "sample_size=[8, 0]",
    ),
    "three sides": (lambda f: edited(f / "unet/config.json", sample_size=[8] * 3), "=[8, 8, 8]"),
    "flow matching": (
        lambda f: edited(
            f / "scheduler/scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler"
        ),
        "FlowMatchEulerDiscreteScheduler",
    ),
    "flow sigmas": (
        lambda f: edited(f / "scheduler/scheduler_config.json", use_flow_sigmas=True),
        "use_flow_sigmas=true",
    ),
    "flow prediction": (
        lambda f: edited(f / "scheduler/scheduler_config.json", prediction_type="flow_prediction"),
        "'flow_prediction'",
    ),
    "no scheduler": (
        lambda f: (f / "scheduler/scheduler_config.json").unlink(),
        "there is no {f}/scheduler/scheduler_config.json",
    ),
    "no configuration": (lambda f: (f / "vae/config.json").unlink(), "no {f}/vae/config.json"),
    "damaged configuration": (
        lambda f: (f / "vae/config.json").write_text("{"),
        "{f}/vae/config.json cannot be read",
    ),
    "folder for a configuration": (
        lambda f: (f / "vae/config.json").rename(f / "old") and (f / "vae/config.json").mkdir(),
        "{f}/vae/config.json cannot be read",
    ),
    "list for a configuration": (
        lambda f: (f / "vae/config.json").write_text("[]"),
        "{f}/vae/config.json holds no settings",
    ),
    "other autoencoder": (
        lambda f: edited(f / "model_index.json", vae=["diffusers", "AutoencoderTiny"]),
        "vae is a AutoencoderTiny",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_is_incomplete_or_does_not_fit(tmp_path: Path, damage: str) -> None:
    """Breaks if a folder passes the check and ends in a traceback, or samples wrongly."""
    folder = write_folder(tmp_path / "sd")
    check_available({"path": str(folder)}, {}, 50)
    change, said = DAMAGES[damage]
    change(folder)
    message = refusal({}, 50, path=str(folder))
    for part in said.format(f=folder).split(".*"):
        assert part in message
    assert f"model.path={folder}" in message or message.startswith("scheduler")


WHOLE: dict[str, Change] = {
    "two sides": lambda f: edited(f / "unet/config.json", sample_size=[8, 16]),
    "classes": lambda f: edited(f / "model_index.json", vae=["diffusers", "AutoencoderKL"]),
    "old tokenizer": lambda f: old_layout(f / "tokenizer", a=0, b=1, c=2),
    "nulls": lambda f: (
        edited(f / "tokenizer/tokenizer.json", model=None, added_tokens=None),
        edited(f / "tokenizer/tokenizer_config.json", added_tokens_decoder=None),
    ),
    "tokenizer without a vocabulary": lambda f: edited(f / "tokenizer/tokenizer.json", model={}),
    "unknown vocabulary": lambda f: edited(f / "text_encoder/config.json", vocab_size=None),
    "scheduler of no class": lambda f: edited(
        f / "scheduler/scheduler_config.json", _class_name=None
    ),
    "grid of the checkpoint": lambda f: edited(
        f / "scheduler/scheduler_config.json", timestep_spacing="trailing"
    ),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_folder_that_is_whole_in_another_way(tmp_path: Path, kind: str) -> None:
    """Breaks if a usual folder of someone else's is refused."""
    folder = write_folder(tmp_path / "sd")
    WHOLE[kind](folder)
    settings = {"path": str(folder), "vae": None, "text_encoder": None}
    check_available(settings, {}, 1000 if kind.startswith("grid") else 50)
    check_available(settings, {"timestep_spacing": "trailing"}, 1000)


@pytest.mark.parametrize(
    ("config", "changes", "num_steps", "said"),
    [
        ({"rescale_betas_zero_snr": True}, {}, 50, "rescale_betas_zero_snr=true .*=memoryless"),
        ({"rescale_betas_zero_snr": True}, {"beta_end": None}, 50, "rescale_betas_zero_snr=true"),
        ({}, {}, 1000, "steps_offset=1 .*timestep 1000"),
        ({"num_train_timesteps": 100}, {}, 101, "has 100 training timesteps"),
    ],
)
def test_schedules_that_cannot_be_sampled(
    tmp_path: Path, config: dict[str, Any], changes: dict[str, Any], num_steps: int, said: str
) -> None:
    """Breaks if a schedule of the checkpoint is refused only after the model is loaded."""
    folder = write_folder(tmp_path / "sd")
    edited(folder / "scheduler/scheduler_config.json", **config)
    message = refusal(changes, num_steps, path=str(folder))
    for part in said.split(" .*"):
        assert part in message
    check_available(
        {"path": str(folder)}, {"beta_start": 0.002, "timestep_spacing": "trailing"}, 50
    )
    check_available({"path": str(folder)}, {"beta_end": 0.009}, 50)


def test_random_weights_have_a_grid_too() -> None:
    """Breaks if a trial run passes with steps that the real one is refused."""
    check_available({"path": "random:tiny"}, {}, 1000)
    assert "num_steps=1500" in refusal({}, 1500, path="random:tiny")


def test_every_scheduler_of_such_models_is_known() -> None:
    """Breaks if a usual scheduler of Stable Diffusion is refused, or one of another kind passes."""
    karras = {each.name for each in KarrasDiffusionSchedulers} - {"EDMEulerScheduler"}
    assert karras < SCHEDULERS
    assert SCHEDULERS.isdisjoint({"EDMEulerScheduler", "LCMScheduler", "TCDScheduler"})


PARTS = {
    "unet": "model.diffusion_model.x",
    "vae": "first_stage_model.x",
    "text_encoder": "cond_stage_model.x",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_single_file_without_a_part(tmp_path: Path, part: str) -> None:
    """Breaks if a file that holds half a model ends in diffusers' code, or without a way round."""
    file = tmp_path / "half.safetensors"
    save_file({name: zeros(1) for of, name in PARTS.items() if of != part}, file)
    message = refusal(path=str(file))
    assert f"holds no {part}" in message
    if part == "unet":
        return
    assert f"model.{part}=/folder" in message
    given = write_folder(tmp_path / "sd") / part
    check_available({"path": str(file), part: str(given)}, {}, 2000)  # its grid is not known yet
    (given / "model.safetensors").unlink()
    message = refusal(path=str(file), **{part: str(given)})
    assert f"model.{part}={given}: {given} has no weights" in message
    assert "there is no" in refusal(path=str(file), **{part: str(tmp_path / "absent")})
    assert "is a Other" in refusal(path=str(file), **{part: str(other(given))})


def other(folder: Path) -> Path:
    edited(folder / "config.json", _class_name="Other")
    return folder


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_the_weight_files_that_will_be_read_are_looked_at(
    tmp_path: Path, variant: str | None
) -> None:
    """Breaks if a damaged file passes, or one that nobody reads is refused."""
    folder = write_folder(tmp_path / "sd")
    write_weights(folder / "vae/model.fp16.safetensors")
    (folder / "vae/model.bin").touch()
    (folder / "vae/training_args.bin").touch()
    (folder / "vae/model.non_ema.safetensors").touch()
    check_available({"path": str(folder), "variant": variant})
    read = "model.fp16.safetensors" if variant else "model.safetensors"
    (folder / "vae" / read).write_bytes(b"\x09")
    assert f"/vae/{read} is cut off or damaged" in refusal(path=str(folder), variant=variant)
    given = write_folder(tmp_path / "other") / "vae"
    check_available({"path": str(folder), "variant": variant, "vae": str(given)})
    (given / "model.safetensors").write_bytes(b"\x09")
    assert f"model.vae={given}: " in refusal(path=str(folder), vae=str(given))


@pytest.mark.parametrize(
    "name", ["diffusion_pytorch_model.safetensors", "model.safetensors", "pytorch_model.bin"]
)
def test_weights_are_looked_at_under_each_of_their_names(tmp_path: Path, name: str) -> None:
    """Breaks if a damaged file passes for one that nobody reads."""
    vae = write_folder(tmp_path / "sd") / "vae"
    (vae / "model.safetensors").rename(vae / name).write_bytes(b"\x09")
    assert f"/vae/{name} is cut off or damaged" in refusal(path=str(vae.parent))


def test_a_part_of_which_a_file_is_missing(tmp_path: Path) -> None:
    """Breaks if a folder with some of its shards passes."""
    unet = write_folder(tmp_path / "sd") / "unet"
    (unet / "model.safetensors").unlink()
    for number in (1, 2, 3):
        write_weights(unet / f"model-0000{number}-of-00003.safetensors")
    check_available({"path": str(unet.parent)})
    (unet / "model-00002-of-00003.safetensors").unlink()
    assert f"{unet} has only 2 of the 3 files" in refusal(path=str(unet.parent))


@pytest.mark.parametrize("content", [b"", b"nothing", b"\xff" * 100, (8).to_bytes(8, "little")])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_damaged_single_file(tmp_path: Path, suffix: str, content: bytes) -> None:
    """Breaks if a download that was cut off is read for minutes, or asks for a configuration."""
    check_available({"path": str(write_weights(tmp_path / "whole.ckpt"))})
    file = tmp_path / f"cut{suffix}"
    file.write_bytes(content)
    assert "cut off or damaged" in refusal(path=str(file))
