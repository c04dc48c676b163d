"""Checkpoints load from every place they may be in."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file

from soc_ft.errors import ConfigError
from soc_ft.models.architectures import random_pipeline
from soc_ft.models.completeness import SINGLE_FILE_PREFIXES
from soc_ft.models.finetune import Full, LoRA
from soc_ft.models.loading import build_model, load_model
from soc_ft.models.pipelines import load_pipeline
from tests.conftest import composed
from tests.models.original_layout import original_layout

PARTS = ("unet", "vae", "text_encoder")


def assert_same_weights(one: StableDiffusionPipeline, other: StableDiffusionPipeline) -> None:
    for part in PARTS:
        state, expected = (getattr(pipeline, part).state_dict() for pipeline in (one, other))
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in state)


@pytest.mark.parametrize(
    ("architecture", "unet", "text_encoder"),
    [("sd15", 859_520_964, 123_060_480), ("sd21", 865_910_724, 340_387_840)],
)
def test_architectures_have_the_public_sizes(
    architecture: str, unet: int, text_encoder: int
) -> None:
    """Breaks if a benchmark on random weights is not that of the real model."""
    pipeline = random_pipeline(architecture, device="meta")
    counts = [sum(p.numel() for p in getattr(pipeline, part).parameters()) for part in PARTS]
    assert counts == [unet, 83_653_863, text_encoder]


def test_random_weights_are_addressed_by_their_seed() -> None:
    """Breaks if random weights depend on, or consume, the global generator."""
    torch.manual_seed(3)
    one, same, other = (random_pipeline("tiny", seed=seed) for seed in (0, 0, 1))
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    assert_same_weights(one, same)
    assert not torch.equal(one.unet.conv_in.weight, other.unet.conv_in.weight)


def test_random_path() -> None:
    """Breaks if model.path=random:... is not resolved."""
    assert_same_weights(load_pipeline("random:tiny"), random_pipeline("tiny"))
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


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_file_of_pytorch_without_a_part(tmp_path: Path, part: str) -> None:
    """Breaks if what a .ckpt lacks is said in the words and code of diffusers."""
    file = tmp_path / "half.ckpt"
    state = original_layout(random_pipeline("tiny"))
    prefix = SINGLE_FILE_PREFIXES[part]
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}
    torch.save({"state_dict": kept}, file)
    said = rf"model\.path={file}: holds no {part} .*: model\.{part}=/folder"
    with pytest.raises(ConfigError, match=said):
        load_pipeline(str(file))


def test_a_file_with_objects_in_it(tmp_path: Path) -> None:
    """Breaks if code in a checkpoint is run, or PyTorch's advice to run it is passed on."""
    file = tmp_path / "model.ckpt"
    torch.save({"state_dict": {}, "callbacks": Path("x")}, file)
    with pytest.raises(ConfigError, match=r"is refused, it holds more than tensors") as error:
        load_pipeline(str(file))
    assert "convert it" in str(error.value)
    assert "weights_only" not in str(error.value)


BIN = dict.fromkeys(PARTS, "diffusion_pytorch_model.bin") | {"text_encoder": "pytorch_model.bin"}


def with_bin(folder: Path, part: str) -> Path:
    """Save a model with the weights of a part as PyTorch writes them; their file."""
    pipeline = random_pipeline("tiny")
    pipeline.save_pretrained(folder)
    for file in (folder / part).glob("*.safetensors"):
        file.unlink()
    torch.save(getattr(pipeline, part).state_dict(), folder / part / BIN[part])
    return folder / part / BIN[part]


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_pytorch_wrote(part: str, tmp_path: Path, capfd: Any) -> None:
    """Breaks if such a folder is not loaded, or diffusers' words on safety come with it."""
    with_bin(tmp_path, part)
    assert_same_weights(load_pipeline(str(tmp_path)), random_pipeline("tiny"))
    assert "unsafe" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_pytorch_wrote_and_that_cannot_be_read(part: str, tmp_path: Path) -> None:
    """Breaks if code in them is run, the libraries' words are repeated, or advice to run it."""
    file = with_bin(tmp_path, part)
    whole, witness = file.read_bytes(), tmp_path / "witness"
    for content, words in (
        (whole[: len(whole) // 2], "cut off or damaged"),
        (whole[:100] + bytes(4000) + whole[4100:], "cut off or damaged"),
        (pickle.dumps({"a": 1}), "cut off or damaged"),
        ([1, 2], "holds a list and no weights by name"),
        ({"a": Trap(witness)}, "it holds more than tensors"),
    ):
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            torch.save(content, file)
        with pytest.raises(ConfigError, match=words) as caught:
            load_pipeline(str(tmp_path))
        line = str(caught.value)
        assert line.startswith(f"model.path={tmp_path}: {file}")
        assert "\n" not in line
        assert "weights_only" not in line
        assert "Unable" not in line
        assert ("convert it" in line) == ("more than tensors" in words)
    assert not witness.exists()


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
    assert "48" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_missing_weights_are_counted_and_named(tmp_path: Path, part: str, kind: str) -> None:
    """Breaks if weights that no file holds are made up, or fail where they are first used."""
    saved = random_pipeline("tiny")
    saved.save_pretrained(tmp_path)
    lost = {"unet": "attn2.to_k", "vae": "decoder.conv_out.bias", "text_encoder": "mlp.fc1.bias"}
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
    assert number >= 1
    counted = kind == "folder" or part == "text_encoder"  # of others diffusers gives no names
    said = rf"{part}: lacks {number} weights \(" if counted else "lacks weights of its UNet or auto"
    with pytest.raises(ConfigError, match=said) as error:
        load_pipeline(str(path), **(options if kind == "file" else {}))
    assert "\n" not in str(error.value)


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


def test_a_flow_model_is_refused(tmp_path: Path) -> None:
    """Breaks if velocities are taken for noise."""
    saved = random_pipeline("tiny")
    saved.register_modules(scheduler=FlowMatchEulerDiscreteScheduler())
    saved.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="FlowMatchEulerDiscreteScheduler"):
        load_pipeline(str(tmp_path))


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


def test_inpainting_unet_is_refused(tmp_path: Path) -> None:
    """Breaks if a UNet with further inputs is accepted and fails in the first rollout."""
    random_pipeline("tiny").save_pretrained(tmp_path)
    config = tmp_path / "vae" / "config.json"
    vae = random_pipeline("tiny").vae
    smaller = type(vae).from_config({**json.loads(config.read_text()), "latent_channels": 3})
    smaller.save_pretrained(tmp_path / "vae")
    with pytest.raises(ConfigError, match="text-to-image"):
        load_pipeline(str(tmp_path))


def test_load_model_applies_its_options() -> None:
    """Breaks if an option of conf/model or conf/scheduler is ignored."""
    model = load_model(
        "random:tiny",
        finetune=LoRA(rank=2),
        scheduler={"beta_start": 0.002, "beta_end": None, "timestep_spacing": "trailing"},
        guidance_scale=3.0,
        frozen_dtype="bfloat16",
        network_checkpointing=True,
    )
    assert model.guidance_scale == 3.0
    assert model.family.vae.dtype == torch.bfloat16
    assert model.scheduler.config.beta_start == 0.002
    assert model.scheduler.config.beta_end == 0.012
    assert model.scheduler.config.timestep_spacing == "trailing"
    assert model.networks.trained.is_gradient_checkpointing
    assert not model.family.vae.is_gradient_checkpointing
    assert model.latent_shape == (4, 8, 8)


@pytest.mark.parametrize("attention", ["auto", "plain"])
def test_load_model_applies_attention(attention: str) -> None:
    """Breaks if the option stops on its way to the networks."""
    model = load_model("random:tiny", finetune=Full(), attention=attention)
    processors = {type(processor) for processor in model.networks.base.attn_processors.values()}
    assert (processors == {AttnProcessor}) == (attention == "plain")


def test_build_model_from_a_configuration() -> None:
    """Breaks if a group of the configuration does not reach the model, or nulls overwrite it."""
    config = composed("model=shapes", "model.path=random:tiny", "finetune=lora", "finetune.rank=3")
    levels = {"beta_start": 0.002, "beta_end": None, "timestep_spacing": "trailing"}
    model = build_model(config.model, config.finetune, levels)
    assert model.guidance_scale == config.model.guidance_scale
    assert model.scheduler.config.beta_start == 0.002
    assert model.scheduler.config.beta_end == 0.012
    assert model.scheduler.config.timestep_spacing == "trailing"
    state = model.trainable_state()
    assert all(len(tensor) == 3 for name, tensor in state.items() if "lora_A" in name)
    assert len(state) == 2 * len([name for name in state if "lora_A" in name]) > 0


def test_build_model_that_trains_nothing() -> None:
    """Breaks if a base model to sample from needs a fine-tuning mode."""
    config = composed("model=shapes", "model.path=random:tiny")
    model = build_model(config.model, None, {})
    assert not list(model.trainable_parameters())
    assert model.scheduler.config.beta_start == 0.00085


def test_build_model_says_what_is_missing() -> None:
    """Breaks if missing weights come wrapped in an error of Hydra's."""
    config = composed("model=sd15", "model.path=/absent")
    with pytest.raises(ConfigError, match=r"model\.path=/absent: not found"):
        build_model(config.model, None, {})


@pytest.mark.parametrize("option", [{"frozen_dtype": "float8"}, {"attention": "flash"}])
def test_unknown_options(option: Mapping[str, str]) -> None:
    """Breaks if a misspelt option is ignored."""
    with pytest.raises(ConfigError, match=f"model.{next(iter(option))}"):
        load_model("random:tiny", finetune=Full(), **option)
