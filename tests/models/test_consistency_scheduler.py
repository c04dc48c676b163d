"""The scheduler of consistency models is diffusers', and the core's process is the scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import LCMScheduler

from soc_ft.errors import ConfigError
from soc_ft.models.consistency_scheduler import ConsistencyScheduler
from soc_ft.models.scheduler import SOCDDIMScheduler, adapt_scheduler

GRIDS = {
    1: [999],
    2: [999, 499],
    3: [999, 679, 339],
    4: [999, 759, 499, 259],
    5: [999, 799, 599, 399, 199],
    6: [999, 839, 679, 499, 339, 179],
    7: [999, 859, 719, 579, 439, 299, 159],
    8: [999, 879, 759, 639, 499, 379, 259, 139],
}
"""Of 19, 39, ..., 999, from the top: number floor(50 i / K) of them for i = 0, ..., K - 1."""


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("num_steps", GRIDS)
def test_the_process_is_diffusers_sampler(num_steps: int, prediction_type: str) -> None:
    """Breaks if timesteps, A, c, sigma or what is decoded disagree with LCMScheduler."""
    process = ConsistencyScheduler(prediction_type=prediction_type).control_process(num_steps, 1.0)
    theirs = LCMScheduler(prediction_type=prediction_type)
    theirs.alphas_cumprod = theirs.alphas_cumprod.double()
    theirs.set_timesteps(num_steps)
    assert process.times.tolist() == theirs.timesteps.tolist() == GRIDS[num_steps]
    generator, drawing = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    x, output = torch.randn(2, 1, 4, generator=generator, dtype=torch.float64)
    for k, t in enumerate(theirs.timesteps.tolist()):
        stepped = theirs.step(output, t, x, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(process.clean(k, x, output), stepped.denoised)
        if k == num_steps - 1:
            torch.testing.assert_close(process.clean(k, x, output), stepped.prev_sample)
            break
        noise = torch.randn(1, 4, generator=drawing.manual_seed(1), dtype=torch.float64)
        ours = process.mean(k, x, output) + process.sigma[k] * noise
        torch.testing.assert_close(ours, stepped.prev_sample)
        x = stepped.prev_sample


def test_settings_of_the_checkpoint_are_heeded() -> None:
    """Breaks if another grid, scale or noise level of a checkpoint is passed over."""
    checkpoint = LCMScheduler(
        beta_end=0.02, original_inference_steps=25, timestep_scaling=0.001, clip_sample=True
    ).config
    scheduler = adapt_scheduler(checkpoint, sampler="consistency")
    assert isinstance(scheduler, ConsistencyScheduler)
    process = scheduler.control_process(2, 1.0)
    assert process.times.tolist() == [999, 519]
    assert process.noise[0] > LCMScheduler().alphas_cumprod[-1].neg().add(1).sqrt()
    s = 0.519
    d_of_x = s / (s**2 + 0.25) ** 0.5 / process.signal[1] + 0.25 / (s**2 + 0.25)
    torch.testing.assert_close(process.clean_x[1], d_of_x)


def test_a_consistency_model_passes_through_the_other_sampler_unharmed() -> None:
    """Breaks if an evaluation, which begins with DDIM and changes it, loses what LCM's has more."""
    checkpoint = LCMScheduler(original_inference_steps=25, timestep_scaling=3.0).config
    ddim = adapt_scheduler(checkpoint)
    assert isinstance(ddim, SOCDDIMScheduler)
    again = adapt_scheduler(ddim.config, sampler="consistency").config
    assert (again.original_inference_steps, again.timestep_scaling) == (25, 3.0)


def test_what_is_exported_is_diffusers_class(tmp_path: Path) -> None:
    """Breaks if a folder needs our class to be loaded, or loses the prediction type."""
    scheduler = ConsistencyScheduler(prediction_type="v_prediction", original_inference_steps=20)
    assert type(scheduler.plain()) is LCMScheduler
    scheduler.plain().save_config(tmp_path)
    loaded = LCMScheduler.from_pretrained(tmp_path)
    assert loaded.config.prediction_type == "v_prediction"
    assert loaded.config.original_inference_steps == 20


@pytest.mark.parametrize(
    ("config", "num_steps", "eta", "message"),
    [
        ({}, 51, 1.0, "num_steps=51: .* 50 timesteps"),
        ({"original_inference_steps": 10}, 11, 1.0, "10 timesteps"),
        ({}, 8, 0.0, "eta=0"),
        ({}, 8, 1.5, r"eta=1\.5"),
        ({"clip_sample": True}, 8, 1.0, "clip_sample"),
        ({"thresholding": True}, 8, 1.0, "thresholding"),
        ({"prediction_type": "flow"}, 8, 1.0, "'flow'"),
        ({"rescale_betas_zero_snr": True}, 8, 1.0, "rescale_betas_zero_snr"),
    ],
)
def test_impossible_processes_are_refused(
    config: dict[str, object], num_steps: int, eta: float, message: str
) -> None:
    """Breaks if a configuration without such a process fails late or not at all."""
    with pytest.raises(ConfigError, match=message) as caught:
        ConsistencyScheduler(**config).control_process(num_steps, eta)
    assert "\n" not in str(caught.value)
