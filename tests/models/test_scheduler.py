"""The scheduler is diffusers' DDIM, and the core's process is the scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler

from soc_ft.errors import ConfigError
from soc_ft.models.scheduler import SOCDDIMScheduler, adapt_scheduler

MEMORYLESS = {
    "beta_start": 0.002,
    "beta_end": 0.009,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
}
SPACINGS = ("trailing", "leading", "linspace")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def scheduler(**config: object) -> SOCDDIMScheduler:
    return SOCDDIMScheduler(**{**MEMORYLESS, "timestep_spacing": "trailing", **config})


def in_double(scheduler: DDIMScheduler) -> DDIMScheduler:
    """Compute the steps of a scheduler in float64, from the same table."""
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    return scheduler


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [50, 7])
def test_step_is_diffusers_step(spacing: str, num_steps: int, prediction_type: str) -> None:
    """Breaks if step changes anything but the alpha_bar that the last transition ends at."""
    config = {"timestep_spacing": spacing, "prediction_type": prediction_type, "steps_offset": 1}
    ours = scheduler(**config)
    theirs = DDIMScheduler(**{**MEMORYLESS, **config})
    ours.set_timesteps(num_steps)
    theirs.set_timesteps(num_steps)
    theirs.final_alpha_cumprod = (1 + ours.alphas_cumprod[ours.timesteps[-1]]) / 2
    assert torch.equal(ours.timesteps, theirs.timesteps)

    generator = torch.Generator().manual_seed(0)
    x, output, noise = torch.randn(3, 2, 4, 8, 8, generator=generator)
    for t in ours.timesteps:
        for eta in (0.0, 0.5, 1.0):
            arguments = {"eta": eta, "variance_noise": noise, "return_dict": False}
            stepped = ours.step(output, t, x, **arguments)
            assert torch.equal(stepped[0], theirs.step(output, t, x, **arguments)[0])


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [50, 30, 7])
def test_control_process_reproduces_every_step(
    spacing: str, num_steps: int, eta: float, prediction_type: str
) -> None:
    """Breaks if A, c, sigma or the clean prediction disagree with step, the last one included."""
    soc = scheduler(timestep_spacing=spacing, steps_offset=1, prediction_type=prediction_type)
    process = soc.control_process(num_steps, eta)
    in_double(soc)

    generator = torch.Generator().manual_seed(0)
    x, output, noise = torch.randn(3, 1, 4, generator=generator, dtype=torch.float64)
    assert process.num_steps == num_steps
    assert process.eta == eta
    assert process.times.tolist() == soc.timesteps.tolist()
    for k, t in enumerate(soc.timesteps):
        stepped = soc.step(output, t, x, eta=eta, variance_noise=noise)
        ours = process.mean(k, x, output) + process.sigma[k] * noise
        torch.testing.assert_close(ours, stepped.prev_sample, rtol=1e-12, atol=1e-12)
        clean = process.clean(k, x, output)
        torch.testing.assert_close(clean, stepped.pred_original_sample, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_control_process_in_single_precision(prediction_type: str) -> None:
    """Breaks if the float32 steps of a pipeline drift from the core beyond rounding."""
    soc = scheduler(prediction_type=prediction_type)
    process = soc.control_process(50, 1.0)
    x, output, noise = torch.randn(3, 64, 4, generator=torch.Generator().manual_seed(0))
    for k, t in enumerate(soc.timesteps):
        stepped = soc.step(output, t, x, eta=1.0, variance_noise=noise, return_dict=False)[0]
        ours = process.mean(k, x, output) + process.sigma[k].float() * noise
        torch.testing.assert_close(ours, stepped, rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_exact_outputs_of_each_type_give_the_same_process(prediction_type: str) -> None:
    """Breaks if an output is not the algebra of x = sqrt(a) x_0 + sqrt(1-a) eps."""
    soc = scheduler(prediction_type=prediction_type)
    process = soc.control_process(50, 1.0)
    reference = scheduler().control_process(50, 1.0)
    clean, eps = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    for k, t in enumerate(soc.timesteps):
        alpha_bar = soc.alphas_cumprod[t].double()
        signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        x = signal * clean + noise * eps
        outputs = {"epsilon": eps, "v_prediction": signal * eps - noise * clean, "sample": clean}
        output = outputs[prediction_type]
        torch.testing.assert_close(process.mean(k, x, output), reference.mean(k, x, eps))
        torch.testing.assert_close(process.clean(k, x, output), clean)
    assert torch.equal(process.sigma, reference.sigma)


def test_sigma_of_the_last_step_is_positive() -> None:
    """Breaks if the last transition becomes deterministic, where the control is undefined."""
    soc = scheduler(set_alpha_to_one=True)
    process = soc.control_process(50, 1.0)
    assert process.sigma[-1] > 1e-2
    # For outputs of noise A^2 is alpha_bar' / alpha_bar.
    alpha_bar = soc.alphas_cumprod[soc.timesteps[-1]].item()
    assert process.A[-1].item() ** 2 * alpha_bar == pytest.approx((1 + alpha_bar) / 2)


def test_eta_above_one_stays_finite_where_step_does_not() -> None:
    """Breaks if the documented difference to diffusers for eta > 1 changes."""
    soc = scheduler()
    process = soc.control_process(50, 2.0)
    assert process.c.isfinite().all()
    x = torch.ones(1, 4)
    last = soc.step(x, soc.timesteps[-1], x, eta=2.0, variance_noise=x, return_dict=False)[0]
    assert last.isnan().all()


@pytest.mark.parametrize("num_steps", [61, 103, 999])
def test_trailing_grid_has_the_number_of_steps_asked_for(num_steps: int) -> None:
    """Breaks if diffusers' extra timestep of -1 comes through."""
    process = scheduler().control_process(num_steps, 1.0)
    assert process.num_steps == num_steps
    assert process.times[-1] >= 0


def test_configuration_survives_saving(tmp_path: Path) -> None:
    """Breaks if the class is not registered as a diffusers configuration."""
    soc = scheduler(prediction_type="v_prediction")
    soc.save_config(tmp_path)
    loaded = SOCDDIMScheduler.from_pretrained(tmp_path)
    assert loaded.config.prediction_type == "v_prediction"
    assert torch.equal(loaded.alphas_cumprod, soc.alphas_cumprod)
    assert isinstance(DDIMScheduler.from_config(soc.config), DDIMScheduler)


def test_adapting_a_checkpoint_keeps_what_is_not_changed() -> None:
    """Breaks if nulls overwrite the checkpoint's values, or its own betas shadow new ones."""
    checkpoint = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        trained_betas=[0.1] * 1000,
        prediction_type="v_prediction",
        steps_offset=1,
    ).config
    kept = adapt_scheduler(checkpoint)
    assert kept.config.steps_offset == 1
    assert kept.config.prediction_type == "v_prediction"
    assert kept.betas[0] == pytest.approx(0.1)
    assert not kept.config.clip_sample

    changed = adapt_scheduler(checkpoint, beta_start=0.002, timestep_spacing="trailing")
    assert changed.betas[0] == pytest.approx(0.002)
    assert changed.betas[-1] == pytest.approx(0.012)
    assert changed.config.timestep_spacing == "trailing"


@pytest.mark.parametrize(
    ("config", "num_steps", "message"),
    [
        ({"clip_sample": True}, 50, "clip_sample"),
        ({"thresholding": True}, 50, "thresholding"),
        ({"prediction_type": "flow"}, 50, "'flow'"),
        ({}, 1001, "1001"),
        ({"rescale_betas_zero_snr": True}, 50, "alpha_bar"),
    ],
)
def test_impossible_processes_are_refused(
    config: dict[str, object], num_steps: int, message: str
) -> None:
    """Breaks if a configuration without a control process fails late or not at all."""
    with pytest.raises(ConfigError, match=message):
        scheduler(**config).control_process(num_steps, 1.0)
