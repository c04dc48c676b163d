"""Pictures from a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from soc_ft.commands.sample import pictures_of_run, sample
from soc_ft.errors import ConfigError
from tests.conftest import composed

TinyRun = Callable[..., Path]


def pictures(folder: Path, *overrides: str, prompts: tuple[str, ...] = ("a", "b")) -> torch.Tensor:
    from omegaconf import OmegaConf

    config = composed(
        f"run={folder}", "samples_per_prompt=2", *overrides, config="sample", folder="commands"
    )
    run_config = OmegaConf.load(folder / "config.yaml")
    return pictures_of_run(config, folder, run_config, list(prompts))  # type: ignore[arg-type]


def test_pictures_do_not_depend_on_the_batch_size(tiny_run: TinyRun) -> None:
    """Breaks when a picture's noise depends on what is sampled beside it."""
    folder = tiny_run("trainer.steps=1")
    together, apart = pictures(folder, "batch_size=4"), pictures(folder, "batch_size=1")
    assert (together.int() - apart.int()).abs().max() <= 1


def test_the_base_model_shares_the_noise(tiny_run: TinyRun) -> None:
    """Breaks when base and fine-tuned pictures cannot be compared one to one."""
    folder = tiny_run("trainer.steps=1", "trainer.lr=1e-20")
    tuned, base = pictures(folder), pictures(folder, "base=true")
    assert (tuned.int() - base.int()).abs().max() <= 1
    moved = tiny_run("trainer.steps=2", "trainer.lr=1e-2", folder="moved")
    assert (pictures(moved).int() - pictures(moved, "base=true").int()).abs().max() > 1


def test_the_command_writes_every_picture_and_an_overview(tiny_run: TinyRun) -> None:
    """Breaks when pictures are lost, or the overview does not show them all."""
    folder = tiny_run("trainer.steps=1")
    sample(
        composed(
            f"run={folder}",
            "prompts=[one,two]",
            "samples_per_prompt=3",
            config="sample",
            folder="commands",
        )
    )
    names = {path.name for path in (folder / "pictures").iterdir()}
    assert names == {f"{i:04d}-{j:02d}.png" for i in (0, 1) for j in range(3)} | {"overview.png"}
    assert Image.open(folder / "pictures" / "0000-00.png").size == (16, 16)


def test_a_missing_checkpoint_lists_those_there_are(tiny_run: TinyRun) -> None:
    """Breaks when a wrong name ends in a traceback, or the right names are not said."""
    folder = tiny_run("trainer.steps=2", "trainer.keep_every=2")
    with pytest.raises(ConfigError, match=r"step-9.*best, last, step-000002"):
        pictures(folder, "checkpoint=step-9")


def test_no_prompts_are_refused(tiny_run: TinyRun) -> None:
    """Breaks when an empty list samples nothing without a word."""
    folder = tiny_run("trainer.steps=1")
    with pytest.raises(ConfigError, match="at least one prompt"):
        sample(composed(f"run={folder}", "prompts=[]", config="sample", folder="commands"))
