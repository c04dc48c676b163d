"""The scheduler is diffusers' DDIM, and the core's process is the scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler

from soc_ft.errors import ConfigError
from soc_ft.models.noise_schedule import check_schedule
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


def diffusers_in_double(ours: SOCDDIMScheduler, num_steps: int) -> DDIMScheduler:
    """Diffusers' own steps in float64, with the end of ours."""
    theirs = DDIMScheduler.from_config(ours.config)
    theirs.set_timesteps(num_steps)
    theirs.alphas_cumprod = theirs.alphas_cumprod.double()
    theirs.final_alpha_cumprod = (1 + theirs.alphas_cumprod[theirs.timesteps[-1]]) / 2
    return theirs


REGULAR = [("trailing", 50), ("trailing", 10), ("leading", 50), ("leading", 30), ("leading", 7)]
"""Grids on which diffusers' transitions end where the next one begins."""


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("spacing", "num_steps"), REGULAR)
def test_control_process_is_diffusers_step(
    spacing: str, num_steps: int, eta: float, prediction_type: str
) -> None:
    """Breaks if A, c, sigma or the clean prediction disagree with DDIM, the last one included."""
    soc = scheduler(timestep_spacing=spacing, steps_offset=1, prediction_type=prediction_type)
    process = soc.control_process(num_steps, eta)
    theirs = diffusers_in_double(soc, num_steps)

    generator = torch.Generator().manual_seed(0)
    x, output, noise = torch.randn(3, 1, 4, generator=generator, dtype=torch.float64)
    assert process.num_steps == num_steps
    assert process.eta == eta
    assert process.times.tolist() == theirs.timesteps.tolist()
    for k, t in enumerate(theirs.timesteps):
        stepped = theirs.step(output, t, x, eta=eta, variance_noise=noise)
        ours = process.mean(k, x, output) + process.sigma[k] * noise
        torch.testing.assert_close(ours, stepped.prev_sample, rtol=1e-12, atol=1e-12)
        clean = process.clean(k, x, output)
        torch.testing.assert_close(clean, stepped.pred_original_sample, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [50, 10, 7])
def test_every_transition_ends_where_the_next_begins(spacing: str, num_steps: int) -> None:
    """Breaks if a transition ends at t - T // K where that is no timestep of the grid."""
    soc = scheduler(timestep_spacing=spacing, steps_offset=1)
    process = soc.control_process(num_steps, 1.0)
    alpha_bar = soc.alphas_cumprod.double()[soc.timesteps]
    # For outputs of noise A^2 is alpha_bar' / alpha_bar.
    torch.testing.assert_close((process.A**2 * alpha_bar)[:-1], alpha_bar[1:])


def test_an_exact_model_samples_its_mean_on_an_uneven_grid() -> None:
    """Breaks if the state is at another noise level than the one that the model is told."""
    mean, variance = 1.0, 0.2
    soc = scheduler(timestep_spacing="linspace")
    table, found = soc.alphas_cumprod.double(), []
    for eta in (1.0, 0.0):
        process = soc.control_process(10, eta)
        state = torch.zeros((), dtype=torch.float64)  # the mean of the states
        for k, alpha_bar in enumerate(table[soc.timesteps]):
            spread = alpha_bar * variance + 1 - alpha_bar
            noise = (state - alpha_bar.sqrt() * mean) * (1 - alpha_bar).sqrt() / spread
            state = process.A[k] * state + process.c[k] * noise
        found.append(state.item())
    assert found == pytest.approx([0.999, 0.975], abs=2e-3)  # 0.970 and 0.915 otherwise


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [50, 7])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
def test_step_is_the_process(
    spacing: str, num_steps: int, eta: float, prediction_type: str
) -> None:
    """Breaks if a pipeline with the scheduler samples otherwise than the core."""
    soc = scheduler(timestep_spacing=spacing, steps_offset=1, prediction_type=prediction_type)
    process = soc.control_process(num_steps, eta)
    generator = torch.Generator().manual_seed(0)
    x, output, noise = torch.randn(3, 2, 4, 8, 8, generator=generator)
    for k, t in enumerate(soc.timesteps):
        expected = process.mean(k, x, output) + process.sigma[k].float() * noise
        following, clean = soc.step(output, t, x, eta, variance_noise=noise, return_dict=False)
        torch.testing.assert_close(following, expected)
        torch.testing.assert_close(clean, process.clean(k, x, output))


def test_step_draws_and_rounds_as_diffusers_does() -> None:
    """Breaks if a pipeline's generator is not used, or half precision spoils the coefficients."""
    soc = scheduler()
    soc.set_timesteps(50)
    theirs = DDIMScheduler.from_config(soc.config)
    theirs.set_timesteps(50)
    x, output = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    ours, expected = (
        each.step(output.float(), 999, x.float(), 1.0, generator=torch.Generator().manual_seed(1))
        for each in (soc, theirs)
    )
    torch.testing.assert_close(ours.prev_sample, expected.prev_sample)
    torch.testing.assert_close(ours.pred_original_sample, expected.pred_original_sample)
    rounded = soc.step(output, 999, x, return_dict=False)[0]
    exact = soc.step(output.float(), 999, x.float(), return_dict=False)[0]
    assert torch.equal(rounded, exact.bfloat16())


def test_a_deterministic_step_draws_nothing() -> None:
    """Breaks if steps without noise move the generator, and with it all that is drawn later."""
    soc = scheduler()
    soc.set_timesteps(50)
    x, generator = torch.ones(1, 4), torch.Generator().manual_seed(0)
    before = generator.get_state()
    soc.step(x, 999, x, 0.0, generator=generator)
    assert torch.equal(generator.get_state(), before)
    soc.step(x, 999, x, 0.1, generator=generator)
    assert not torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_control_process_in_single_precision(prediction_type: str) -> None:
    """Breaks if the float32 steps of a pipeline drift from the core beyond rounding."""
    soc = scheduler(prediction_type=prediction_type)
    process = soc.control_process(50, 1.0)
    theirs = DDIMScheduler.from_config(soc.config)
    theirs.set_timesteps(50)
    theirs.final_alpha_cumprod = (1 + theirs.alphas_cumprod[theirs.timesteps[-1]]) / 2
    x, output, noise = torch.randn(3, 64, 4, generator=torch.Generator().manual_seed(0))
    for k, t in enumerate(soc.timesteps):
        stepped = theirs.step(output, t, x, eta=1.0, variance_noise=noise, return_dict=False)[0]
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


def test_eta_above_one_stays_finite() -> None:
    """Breaks if the noise that exceeds the variance of the marginal gives NaN, as in diffusers."""
    soc = scheduler()
    process = soc.control_process(50, 2.0)
    assert process.c.isfinite().all()
    x = torch.ones(1, 4)
    assert soc.step(x, soc.timesteps[-1], x, eta=2.0, variance_noise=x)[0].isfinite().all()


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
    kept = adapt_scheduler({**checkpoint, "clip_sample": True, "thresholding": True})
    assert kept.config.steps_offset == 1
    assert kept.config.prediction_type == "v_prediction"
    assert kept.betas[0] == pytest.approx(0.1)
    assert not kept.config.clip_sample
    assert not kept.config.thresholding

    changed = adapt_scheduler(checkpoint, beta_start=0.002, timestep_spacing="trailing")
    assert changed.betas[0] == pytest.approx(0.002)
    assert changed.betas[-1] == pytest.approx(0.012)
    assert changed.config.timestep_spacing == "trailing"


def test_the_schedule_of_the_betas_is_changed_alone() -> None:
    """Breaks if another schedule is asked for and the checkpoint's stays, or its ends go."""
    checkpoint = PNDMScheduler(
        beta_start=0.01, beta_end=0.04, beta_schedule="scaled_linear", num_train_timesteps=3
    ).config
    for schedule, between in (("linear", 0.025), ("scaled_linear", 0.0225)):
        adapted = adapt_scheduler(checkpoint, beta_schedule=schedule)
        assert adapted.betas.tolist() == pytest.approx([0.01, between, 0.04])


def test_new_betas_do_without_the_checkpoints_rescaling() -> None:
    """Breaks if memoryless betas are rescaled to zero signal, as only the checkpoint's were."""
    checkpoint = DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction").config
    adapted = adapt_scheduler(checkpoint, beta_start=0.002, beta_end=0.009)
    adapted.control_process(50, 1.0)
    assert adapted.betas[-1] == pytest.approx(0.009)
    assert adapt_scheduler(checkpoint).config.rescale_betas_zero_snr


@pytest.mark.parametrize(
    ("config", "num_steps", "message"),
    [
        ({"clip_sample": True}, 50, "clip_sample"),
        ({"thresholding": True}, 50, "thresholding"),
        ({"prediction_type": "flow"}, 50, "'flow'"),
        ({}, 1001, "1001"),
        (
            {"rescale_betas_zero_snr": True},
            50,
            "rescale_betas_zero_snr=true.*=memoryless",
        ),
        ({"timestep_spacing": "leading", "steps_offset": 1}, 1000, "begins at timestep 1000.*999"),
    ],
)
def test_impossible_processes_are_refused(
    config: dict[str, object], num_steps: int, message: str
) -> None:
    """Breaks if a configuration without a control process fails late or not at all."""
    with pytest.raises(ConfigError, match=message):
        scheduler(**config).control_process(num_steps, 1.0)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_the_signal_that_betas_leave_is_that_of_diffusers(schedule: str) -> None:
    """Breaks if betas without a signal pass, or some with one are refused, or it takes PyTorch."""
    for last in (0.012, 0.09, 0.3, 0.9):
        changes = {"beta_start": 0.001, "beta_end": last, "beta_schedule": schedule}
        betas = 1.0 - DDIMScheduler(**changes).alphas
        log_signal = float((-betas.double()).log1p().sum())
        if log_signal > -80:
            check_schedule({}, changes)
            continue
        with pytest.raises(
            ConfigError, match=rf"beta_end={last:g} leave no .*exp\({log_signal:.0f}\)"
        ):
            check_schedule({}, changes)
