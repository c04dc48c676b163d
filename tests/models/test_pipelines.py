"""Checkpoints load from every place they may be in."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from soc_ft.errors import ConfigError
from soc_ft.models import pipelines
from soc_ft.models.architectures import ARCHITECTURES
from soc_ft.models.availability import Source
from soc_ft.models.finetune import Full
from soc_ft.models.loading import load_model
from soc_ft.models.pipelines import load_pipeline
from soc_ft.models.random_weights import random_pipeline
from tests.models.original_layout import original_layout
from tests.models.small import assert_same_weights


def test_random_path() -> None:
    """Breaks if model.path=random:... is not resolved."""
    assert_same_weights(load_pipeline("random:tiny"), random_pipeline("tiny"))
    half = load_pipeline("random:tiny", dtype=torch.bfloat16)
    assert {half.unet.dtype, half.vae.dtype, half.text_encoder.dtype} == {torch.bfloat16}
    with pytest.raises(ConfigError, match="sd15"):
        load_pipeline("random:nothing")


def test_folder(tmp_path: Path) -> None:
    """Breaks if a diffusers folder loads other weights, another tokenizer or another scheduler."""
    saved = random_pipeline("tiny")
    saved.save_pretrained(tmp_path)
    loaded = load_pipeline(str(tmp_path))
    assert_same_weights(loaded, saved)
    assert loaded.safety_checker is None
    assert loaded.scheduler.config.beta_end == saved.scheduler.config.beta_end
    text = "A red circle!"
    assert loaded.tokenizer(text).input_ids == saved.tokenizer(text).input_ids
    assert loaded.tokenizer.model_max_length == 77


def test_half_precision_variant(tmp_path: Path) -> None:
    """Breaks if weights stored in half precision would be trained in half precision."""
    random_pipeline("tiny").to(torch.float16).save_pretrained(tmp_path, variant="fp16")
    loaded = load_pipeline(str(tmp_path), variant="fp16")
    assert {p.dtype for p in loaded.unet.parameters()} == {torch.float32}


def test_single_file(tmp_path: Path) -> None:
    """Breaks if a checkpoint in the original layout loads other weights than it holds."""
    saved = random_pipeline("tiny")
    saved.save_pretrained(tmp_path / "configuration")
    save_file(original_layout(saved), tmp_path / "model.safetensors")
    torch.save({"state_dict": original_layout(saved)}, tmp_path / "model.ckpt")
    for name in ("model.safetensors", "model.ckpt"):
        loaded = load_pipeline(
            str(tmp_path / name), single_file_config=str(tmp_path / "configuration")
        )
        assert_same_weights(loaded, saved)


@pytest.mark.slow
def test_full_size_stable_diffusion_loads_from_every_place(tmp_path: Path) -> None:
    """Breaks if a place works for small models only: names, shards or sizes of the real one."""
    saved = random_pipeline("sd15").to(torch.float16)
    folder, file = tmp_path / "folder", tmp_path / "model.safetensors"
    saved.save_pretrained(folder, variant="fp16")
    save_file(original_layout(saved), file)
    places = ((folder, {"variant": "fp16"}), (file, {"single_file_config": str(folder)}))
    for place, options in places:
        loaded = load_pipeline(str(place), dtype=torch.float16, **options)
        assert_same_weights(loaded, saved)
        del loaded


def test_unreadable_file(tmp_path: Path) -> None:
    """Breaks if a broken file ends in a traceback of diffusers."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="cut off or damaged"):
        load_pipeline(str(file))
    file = file.rename(tmp_path / "model.ckpt")
    with pytest.raises(ConfigError, match=r"model\.ckpt: ") as error:
        load_pipeline(str(file))
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "key"),
    [("unet", "cross_attention_dim"), ("vae", "latent_channels"), ("text_encoder", "hidden_size")],
)
def test_weights_of_another_architecture(part: str, key: str, tmp_path: Path) -> None:
    """Breaks if weights that do not fit their configuration are made up, or told in many lines."""
    random_pipeline("tiny").save_pretrained(tmp_path)
    config = tmp_path / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: 48}))
    with pytest.raises(ConfigError, match=r"another architecture than config\.json says") as caught:
        load_pipeline(str(tmp_path))
    assert str(caught.value).startswith(f"model.path={tmp_path}: {tmp_path / part}: ")
    has, wants = str(caught.value).split(" instead of ")
    assert "48" in wants
    assert "48" not in has.partition("config.json says")[2]
    assert "\n" not in wants


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_missing_weights_are_counted_and_named(tmp_path: Path, part: str, kind: str) -> None:
    """Breaks if weights that no file holds are made up, or fail where they are first used."""
    saved = random_pipeline("tiny")
    saved.save_pretrained(tmp_path)
    lost = {"unet": "attn2.to_", "vae": "decoder.conv_out.bias", "text_encoder": "mlp.fc1.bias"}
    if kind == "folder":
        (file,) = (tmp_path / part).glob("*.safetensors")
        state, path = load_file(file), tmp_path
    else:
        names = {"unet": "attn2.to_k", "vae": "decoder.conv_out.bias", "text_encoder": "fc1.bias"}
        state, file = original_layout(saved), tmp_path / "model.safetensors"
        lost, path = names, file
    kept = {name: tensor for name, tensor in state.items() if lost[part] not in name}
    save_file(kept, file, metadata={"format": "pt"})
    number, options = len(state) - len(kept), {"single_file_config": str(tmp_path)}
    counted = kind == "folder" or part == "text_encoder"  # of others diffusers gives no names
    said = rf"{part}: lacks {number} weights \(" if counted else "lacks weights of its UNet or auto"
    with pytest.raises(ConfigError, match=said) as error:
        load_pipeline(str(path), **(options if kind == "file" else {}))
    line = str(error.value)
    assert "\n" not in line
    if counted:
        named = line.partition("weights (")[2].partition(")")[0].split(", ")
        assert all(lost[part] in name for name in named[:3])
        assert named[3:] == ["..."] * (number > 3)


def test_another_autoencoder_and_text_encoder(tmp_path: Path) -> None:
    """Breaks if the parts that are named are not those that are used."""
    saved, other = random_pipeline("tiny"), random_pipeline("tiny", seed=1)
    saved.save_pretrained(tmp_path / "sd")
    other.save_pretrained(tmp_path / "other")
    state = original_layout(saved)
    unet = {name: tensor for name, tensor in state.items() if "diffusion_model" in name}
    save_file(unet, tmp_path / "unet.safetensors")
    given = {part: str(tmp_path / "other" / part) for part in ("vae", "text_encoder")}
    file = {"single_file_config": str(tmp_path / "sd")}
    for path, options in (("sd", {}), ("unet.safetensors", file), ("random:tiny", {})):
        where = path if path.startswith("random") else str(tmp_path / path)
        loaded = load_pipeline(where, **options, **given)
        mixed = random_pipeline("tiny")
        mixed.register_modules(vae=other.vae, text_encoder=other.text_encoder)
        assert_same_weights(loaded, mixed)


def test_variant_of_some_parts(tmp_path: Path) -> None:
    """Breaks if a part without the variant is refused, or the others lose theirs."""
    saved = random_pipeline("tiny")
    saved.save_pretrained(tmp_path)
    random_pipeline("tiny", seed=1).unet.save_pretrained(tmp_path / "unet", variant="fp16")
    loaded = load_pipeline(str(tmp_path), variant="fp16")
    saved.register_modules(unet=random_pipeline("tiny", seed=1).unet)
    assert_same_weights(loaded, saved)


def test_a_variant_that_is_cut_off(tmp_path: Path) -> None:
    """Breaks if the plain weights are looked at, and those that are loaded are not."""
    random_pipeline("tiny").save_pretrained(tmp_path)
    file = tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=rf"{file} is cut off or damaged"):
        load_pipeline(str(tmp_path), variant="fp16")


def test_a_flow_model_is_refused(tmp_path: Path) -> None:
    """Breaks if velocities are taken for noise."""
    saved = random_pipeline("tiny")
    saved.register_modules(scheduler=FlowMatchEulerDiscreteScheduler())
    saved.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(original_layout(saved), file)
    for place, options in ((tmp_path, {}), (file, {"single_file_config": str(tmp_path)})):
        with pytest.raises(ConfigError, match="FlowMatchEulerDiscreteScheduler"):
            load_pipeline(str(place), **options)


def test_clipping_that_is_switched_off_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Breaks if a setting of the checkpoint is changed without a word, or words come always."""
    saved = random_pipeline("tiny")
    saved.save_pretrained(tmp_path)
    load_pipeline(str(tmp_path))
    assert not caplog.records
    file = tmp_path / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text()) | {"clip_sample": True, "thresholding": True}
    file.write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # diffusers' words on the same
        model = load_model(str(tmp_path), finetune=Full())
    assert [record.message.split(": ")[1].split(";")[0] for record in caplog.records] == [
        "clip_sample=true is switched off",
        "thresholding=true is switched off",
    ]
    model.scheduler.control_process(10, 1.0)


def test_unreadable_folder(tmp_path: Path) -> None:
    """Breaks if a broken folder ends in a traceback of diffusers."""
    random_pipeline("tiny").save_pretrained(tmp_path)
    (tmp_path / "unet" / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"there is no .*unet/config\.json") as error:
        load_pipeline(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "unet",
    [
        {"in_channels": 9},
        {"class_embed_type": "timestep"},
        {"addition_embed_type": "text", "addition_embed_type_num_heads": 4},
    ],
)
def test_a_unet_with_further_inputs_is_refused(
    monkeypatch: pytest.MonkeyPatch, unet: dict[str, Any]
) -> None:
    """Breaks if inpainting, an unCLIP or an XL is accepted and fails in the first rollout."""
    tiny = ARCHITECTURES["tiny"]
    monkeypatch.setitem(ARCHITECTURES, "other", replace(tiny, unet={**tiny.unet, **unet}))
    with pytest.raises(ConfigError, match="text-to-image"):
        load_pipeline("random:other")


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("config", [None, "/configuration"])
def test_a_single_file_is_read_with_the_hub_if_it_may_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool, config: str | None
) -> None:
    """Breaks if a machine without network waits for it, or advice names what was already done."""
    file, asked = tmp_path / "model.safetensors", {}
    names = ("model.diffusion_model.x", "first_stage_model.x", "cond_stage_model.x")
    save_file({name: torch.zeros(1) for name in names}, file)

    def load(where: str, **options: object) -> NoReturn:
        asked.update(options)
        raise OSError("no such architecture")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(StableDiffusionPipeline, "from_single_file", load)
    with pytest.raises(ConfigError, match=r"cannot be loaded \(OSError: no such arch") as error:
        load_pipeline(str(file), single_file_config=config)
    assert ("set model.single_file_config" in str(error.value)) == (config is None)
    assert asked["local_files_only"] is offline
    assert asked["config"] == config
    assert asked["safety_checker"] is None


@pytest.mark.parametrize("kind", [OSError, ValueError])
def test_a_download_that_fails_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """Breaks if a hub that gives up in the middle ends in a traceback."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise kind("half of it\nadvice")

    monkeypatch.setattr(StableDiffusionPipeline, "download", fail)
    with pytest.raises(ConfigError, match=r"path=a/b: cannot be downloaded .* half of it advice"):
        pipelines.download("a/b")


def test_a_model_of_the_hub_is_downloaded_and_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if another revision or variant is looked for, downloaded or loaded than is named."""
    random_pipeline("tiny", seed=1).save_pretrained(tmp_path)
    random_pipeline("tiny").save_pretrained(tmp_path, variant="fp16")
    here: list[Path] = []
    asked = []

    def locate(*where: str) -> Source:
        asked.append(where)
        return Source("folder", str(here[0])) if here else Source("hub", where[0])

    def download(path: str, revision: str, variant: str, **left_out: object) -> None:
        asked.append((path, revision, variant))
        here.append(tmp_path)

    monkeypatch.setattr(pipelines, "locate", locate)
    monkeypatch.setattr(StableDiffusionPipeline, "download", download)
    where = ("someone/some-model", "v2", "fp16")
    assert_same_weights(load_pipeline(*where), random_pipeline("tiny"))
    assert asked == [where] * 3
