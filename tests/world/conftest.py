"""What the tests of the embedded model share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from soc_ft.files import conf_dir

TINY = (
    "vae.channels=[8,8,8,8]",
    "vae.batch_size=2",
    "vae.measure_on=4",
    "text.captions=50",
    "text.hidden=16",
    "text.layers=1",
    "diffusion.channels=[16,16]",
    "diffusion.pictures=8",
    "diffusion.encode_batch=4",
    "diffusion.batch_size=4",
    "student.batch_size=4",
    "student.levels=4",
    "student.guidance_embedding=8",
    "judge.batch_size=4",
    "judge.redrawn=2",
    "judge.reconstructions=4",
    "judge.encode_batch=4",
    "judge.channels=[8,8]",
    "judge.hidden=8",
    "contrastive.channels=[8,8]",
    "contrastive.features=8",
    "contrastive.batch_size=4",
    "preferences.prompts=2",
    "preferences.candidates=3",
    "preferences.redrawn=2",
    "preferences.base_samples=8",
    "preferences.sample_batch=4",
    "preferences.sample_steps=2",
    "preferences.sampled=2",
    *(
        f"{stage}.loop.{setting}"
        for stage in ("vae", "diffusion", "student", "judge", "contrastive", "preferences")
        for setting in ("steps=2", "save_every=1")
    ),
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_config() -> DictConfig:
    """The shipped configuration, small enough to train every stage in seconds."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("world", list(TINY))
