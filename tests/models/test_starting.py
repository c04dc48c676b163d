"""A run starts from what another one exported or saved."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from soc_ft.errors import ConfigError
from soc_ft.models.export import export_pipeline
from soc_ft.models.finetune import FineTuning, Full, LoRA, Offset
from soc_ft.models.model import DiffusionModel
from soc_ft.models.starting import LORA_FILE, check_start, find_start, start
from soc_ft.models.weights import save_weights
from tests.models.small import MODES, make_inputs, make_model, perturb, same


def trained(mode: FineTuning, folder: Path) -> DiffusionModel:
    """A trained model, and the folder of its run with a checkpoint."""
    model = make_model(mode)
    perturb(model)
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": model.trainable_state()}, folder / "checkpoints" / "last.ckpt")
    save_weights(model.trainable_state(), folder / "checkpoints" / "best.safetensors")
    OmegaConf.save(OmegaConf.create({"finetune": asdict(mode)}), folder / "config.yaml")  # type: ignore[call-overload]
    return model


def started(mode: FineTuning, init: Path) -> DiffusionModel:
    model = make_model(mode)
    check_start({"init": str(init)})
    start(model, {"init": str(init)})
    return model


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", ["", "checkpoints/last.ckpt", "checkpoints/best.safetensors"])
def test_starts_from_a_checkpoint(tmp_path: Path, mode: str, place: str) -> None:
    """Breaks if a checkpoint of a run, or the run itself, does not give the trained model."""
    model = trained(MODES[mode], tmp_path)
    new = started(MODES[mode], tmp_path / place)
    assert same(new.trainable_state(), model.trainable_state())
    inputs = make_inputs(model)
    assert torch.equal(new.base(*inputs), model.base(*inputs))
    assert all(parameter.requires_grad for parameter in new.trainable_parameters())


@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("place", ["", "model"])
def test_starts_from_an_export(tmp_path: Path, mode: str, place: str) -> None:
    """Breaks if what diffusers loads is not read back, or an older checkpoint is preferred."""
    model = trained(MODES[mode], tmp_path)
    perturb(model, seed=3)
    export_pipeline(model, tmp_path / "model")
    assert same(started(MODES[mode], tmp_path / place).trainable_state(), model.trainable_state())


def test_starts_from_a_checkpoint_that_was_moved(tmp_path: Path) -> None:
    """Breaks if a checkpoint needs the configuration of its run, whose scale is then this one's."""
    mode = LoRA(rank=2, alpha=6)
    model = trained(mode, tmp_path)
    moved = (tmp_path / "checkpoints" / "best.safetensors").rename(tmp_path / "mine.safetensors")
    assert same(started(mode, moved).trainable_state(), model.trainable_state())


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_starts_from_lora_weights_that_do_not_say_their_scale(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    """Breaks if a file of weights that diffusers loads needs what newer versions write beside."""
    mode = LoRA(rank=2, alpha=6)
    model = trained(mode, tmp_path / "run")
    export_pipeline(model, tmp_path)
    file = tmp_path / LORA_FILE
    save_file(load_file(file), file, metadata)
    assert same(started(mode, file).trainable_state(), model.trainable_state())


@pytest.mark.parametrize("exported", [True, False], ids=["export", "checkpoint"])
def test_another_scale_gives_the_same_model(tmp_path: Path, exported: bool) -> None:
    """Breaks if LoRA weights count for more or less with another alpha / rank."""
    mode = LoRA(rank=2, alpha=6)
    model = trained(mode, tmp_path)
    if exported:
        export_pipeline(model, tmp_path / "model")
    inputs = make_inputs(model)
    new = started(replace(mode, alpha=2), tmp_path)
    torch.testing.assert_close(new.trained(*inputs), model.trained(*inputs), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(new.trained(*inputs), new.base(*inputs), atol=1e-3)
    had, has = model.trainable_state(), new.trainable_state()
    for name in had:  # the first factor keeps the size that it was drawn with
        assert (".lora_A." in name) == torch.equal(has[name], had[name])


def test_a_full_start_from_a_merged_folder(tmp_path: Path) -> None:
    """Breaks if a network with merged LoRA weights cannot be trained on as a whole."""
    model = trained(LoRA(rank=2, alpha=6), tmp_path / "run")
    export_pipeline(model, tmp_path / "merged", "folder")
    new, inputs = started(Full(), tmp_path / "merged"), make_inputs(model)
    torch.testing.assert_close(new.trained(*inputs), model.trained(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("of", "into"),
    [(LoRA(rank=2), LoRA(rank=4)), (LoRA(rank=2), Full()), (Full(), LoRA(rank=2))],
    ids=["rank", "full from lora", "lora from full"],
)
@pytest.mark.parametrize("exported", [True, False], ids=["export", "checkpoint"])
def test_weights_of_another_mode(
    tmp_path: Path, of: FineTuning, into: FineTuning, exported: bool
) -> None:
    """Breaks if weights are loaded in part, or a refusal does not name the key and the file."""
    model = trained(of, tmp_path)
    if exported:
        export_pipeline(model, tmp_path / "model")
    with pytest.raises(ConfigError, match=r"finetune\.init=.*check model and finetune") as error:
        started(into, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "place", ["model", "checkpoints/best.safetensors", "checkpoints/last.ckpt"]
)
@pytest.mark.parametrize(("of", "into"), [(LoRA(rank=2), "Full"), (Full(), "LoRA")])
def test_another_mode_is_told_before_the_model_loads(
    tmp_path: Path, of: FineTuning, into: str, place: str
) -> None:
    """Breaks if a start that cannot fit is noticed only once the model has been loaded."""
    model = trained(of, tmp_path)
    export_pipeline(model, tmp_path / "model")
    target, init = "soc_ft.models.finetune.", str(tmp_path / place)
    settings = {"_target_": f"{target}{type(of).__name__}"} | asdict(of)  # type: ignore[call-overload]
    OmegaConf.save(OmegaConf.create({"finetune": settings}), tmp_path / "config.yaml")
    check_start({"init": init, "_target_": settings["_target_"]})
    with pytest.raises(ConfigError, match=rf"^finetune\.init=.*use finetune={settings_of(of)}$"):
        check_start({"init": init, "_target_": f"{target}{into}"})


def settings_of(mode: FineTuning) -> str:
    """Name of the option of conf/finetune."""
    return type(mode).__name__.lower()


def test_nothing_to_start_from(tmp_path: Path) -> None:
    """Breaks if a wrong name is noticed only after the model is loaded, or starts at the base."""
    (tmp_path / "notes.txt").touch()
    for init in (tmp_path / "absent", tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ConfigError, match=r"finetune\.init=.*no trained weights"):
            check_start({"init": str(init)})
    (tmp_path / "model.ckpt").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"finetune\.init=.*model\.ckpt is cut off"):
        started(Full(), tmp_path / "model.ckpt")
    check_start({"init": None})
    check_start({})


def test_an_offset_that_was_exported(tmp_path: Path) -> None:
    """Breaks if the file that runs write for the offset mode is not found."""
    model = make_model(Offset())
    save_weights(model.trainable_state(), tmp_path / "model" / "offset.safetensors")
    assert find_start(str(tmp_path)).path == tmp_path / "model" / "offset.safetensors"


def test_a_start_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if ~ in quotation marks, which no shell has replaced, is a folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.ckpt").touch()
    assert find_start("~/mine.ckpt").path == tmp_path / "mine.ckpt"


def test_a_damaged_folder_is_told_before_the_model_loads(tmp_path: Path) -> None:
    """Breaks if weights that are cut off cost a minute of loading, or their file is not named."""
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"^finetune\.init=.*/unet/.* is cut off or damaged"):
        check_start({"init": str(tmp_path)})


@pytest.mark.parametrize("kind", ["folder", "lora"])
def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path, kind: str) -> None:
    """Breaks if files that are whole and still not what they seem end in a traceback."""
    if kind == "folder":
        (tmp_path / "model_index.json").write_text("{}")
        mode: FineTuning = Full()
    else:
        tensors = {"unet.x": torch.zeros(1)}
        save_file(tensors, tmp_path / LORA_FILE, {"lora_adapter_metadata": "no JSON"})
        mode = LoRA(rank=2)
    with pytest.raises(
        ConfigError, match=r"^finetune\.init=.*is not a checkpoint that can be read"
    ) as error:
        started(mode, tmp_path)
    assert "\n" not in str(error.value)
