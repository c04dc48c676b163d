"""The optimum of fine-tuning, p_base exp(lambda r) / Z, from samples of the base model.

Self-normalised importance sampling, prompt by prompt: N samples x_i of p_base have the weights
w_i = softmax(lambda r(x_i)). Everything is float64.

The prompts are fixed: what is estimated is the mean over these P prompts, and its standard error is
that of the sampling within them, prompts independent, not of the choice of prompts. The jackknife
(each sample of a prompt left out in turn) takes the bias of order 1/N and gives the errors; what is
made of several estimates has its error by the delta method from the same influence of each sample.

Fine-tuning leaves the law of the initial noise as it is. Where the clean sample still depends on it
(few steps, eta below 1) the optimum cannot be reached, and its objective is an upper bound.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_TINY = torch.finfo(torch.float64).tiny

Influenced = tuple[Tensor, Tensor]
"""An estimate of each prompt (P,), and the influence of each of its samples on it (P, N)."""


class TiltEstimate(NamedTuple):
    """A mean over prompts and its standard error within them."""

    value: float
    error: float


class Tilt:
    """Expectations under p* = p_base exp(lambda r) / Z of each prompt."""

    def __init__(self, rewards: Tensor, reward_scale: float) -> None:
        """Weigh the samples.

        Args:
            rewards: (P, N), finite, of N >= 2 independent base samples of each of P prompts.
            reward_scale: lambda >= 0.

        Raises:
            ValueError: the shape is another, or a reward is not finite.
        """
        if rewards.ndim != 2 or rewards.shape[1] < 2 or not len(rewards):
            raise ValueError(f"rewards {tuple(rewards.shape)}: must be (prompts, samples >= 2)")
        if not bool(rewards.isfinite().all()):
            raise ValueError("rewards must be finite")
        self.rewards = rewards.double()
        self.reward_scale = reward_scale
        self.weights = (reward_scale * self.rewards).softmax(dim=1)
        self._rest = (1 - self.weights).clamp_min(_TINY)

    @property
    def effective_samples(self) -> Tensor:
        """(P,) Kish's effective sample size of each prompt, in [1, N]."""
        return 1 / self.weights.square().sum(dim=1)

    @property
    def mean_effective_samples(self) -> float:
        """Harmonic mean over prompts, since variance and bias of each go with one over its own."""
        return float(1 / self.effective_samples.reciprocal().mean())

    def reward(self) -> TiltEstimate:
        """E*[r]."""
        return self.mean(self.rewards)

    def mean(self, values: Tensor) -> TiltEstimate:
        """E*[m] of values m (P, N) of the samples."""
        return _estimate(*self._mean(values.double()))

    def gain(self, values: Tensor) -> TiltEstimate:
        """E*[m] - E_base[m] of values m (P, N), from the same samples."""
        return _estimate(*self._gain(values.double()))

    def divergence(self) -> TiltEstimate:
        """KL(p* || p_base) = lambda E*[r] - log E_base[exp(lambda r)], in nats."""
        return _estimate(*self._divergence())

    def objective(self) -> TiltEstimate:
        """Maximum over p of lambda E_p[r] - KL(p || p_base), which is log E_base[exp(lambda r)]."""
        return _estimate(*self._log_partition())

    def objective_gain(self) -> TiltEstimate:
        """The same minus the base model's own, lambda E_base[r]."""
        log_partition, of_log_partition = self._log_partition()
        base, of_base = _base_mean(self.rewards)
        scale = self.reward_scale
        return _estimate(log_partition - scale * base, of_log_partition - scale * of_base)

    def efficiency(self) -> TiltEstimate:
        """The gain over sqrt(2 KL Var_base(r)), of means over prompts; 1 as lambda goes to 0.

        A small change of the law can gain no more at its KL (Cauchy-Schwarz). NaN without one.
        """
        gain, of_gain = self._gain(self.rewards)
        cost, of_cost = self._divergence()
        variance, of_variance = self._base_variance()
        value = nats_efficiency(float(gain.mean()), float(cost.mean()), float(variance.mean()))
        relative = (
            of_gain / gain.mean()
            - of_cost / (2 * cost.mean())
            - of_variance / (2 * variance.mean())
        )
        return TiltEstimate(value, _estimate(gain, value * relative).error)

    def base_variance(self) -> TiltEstimate:
        """Var_base(r) within prompts."""
        return _estimate(*self._base_variance())

    def diversity(self, embeddings: Tensor) -> TiltEstimate:
        """Half the mean squared distance of two independent samples of p*.

        From weighted pairs of different samples: for equal weights the unbiased variance.

        Args:
            embeddings: (P, N, D).
        """
        values, influence = _pair_distance(self.weights, embeddings.double())
        return _estimate(values, influence)

    def _mean(self, values: Tensor) -> Influenced:
        w = self.weights
        total = (w * values).sum(dim=1, keepdim=True)
        return _jackknife(total, (total - w * values) / self._rest)

    def _gain(self, values: Tensor) -> Influenced:
        (tilted, of_tilted), (base, of_base) = self._mean(values), _base_mean(values)
        return tilted - base, of_tilted - of_base

    def _log_partition(self) -> Influenced:
        number = self.rewards.shape[1]
        log_sum = (self.reward_scale * self.rewards).logsumexp(dim=1, keepdim=True)
        without = log_sum + self._rest.log() - math.log(number - 1)
        return _jackknife(log_sum - math.log(number), without)

    def _divergence(self) -> Influenced:
        (reward, of_reward), (log_partition, of_log) = (
            self._mean(self.rewards),
            self._log_partition(),
        )
        scale = self.reward_scale
        return scale * reward - log_partition, scale * of_reward - of_log

    def _base_variance(self) -> Influenced:
        equal = torch.full_like(self.rewards, 1 / self.rewards.shape[1])
        return _pair_distance(equal, self.rewards[..., None])


def nats_efficiency(gain: float, cost: float, base_variance: float) -> float:
    """What was gained of what a cost in nats allows for: gain / sqrt(2 cost base_variance).

    Args:
        gain: of the mean reward over the base model.
        cost: KL to the base model, such as the control cost, in nats.
        base_variance: of the reward under the base model, within prompts.

    Returns:
        1 for the tilt at small lambda; NaN where ``cost`` or ``base_variance`` is not positive.
    """
    bound = 2 * cost * base_variance
    return gain / bound**0.5 if cost > 0 and base_variance > 0 else float("nan")


def _pair_distance(weights: Tensor, embeddings: Tensor) -> Influenced:
    """Half the mean squared distance over pairs of different samples, by their weights."""
    center = (weights[..., None] * embeddings).sum(dim=1, keepdim=True)
    squares = (embeddings - center).square().sum(dim=2)
    variance = (weights * squares).sum(dim=1, keepdim=True)
    same = weights.square().sum(dim=1, keepdim=True)
    rest = (1 - weights).clamp_min(_TINY)
    share = weights / rest
    variance_without = variance + share * (variance - squares) - share.square() * squares
    same_without = (same - weights.square()) / rest.square()
    return _jackknife(variance / (1 - same), variance_without / (1 - same_without))


def _base_mean(values: Tensor) -> Influenced:
    means = values.mean(dim=1, keepdim=True)
    return means[:, 0], values - means


def _jackknife(total: Tensor, without: Tensor) -> Influenced:
    """From an estimate (P, 1) of each prompt and those without one of its samples (P, N)."""
    number = without.shape[1]
    mean = without.mean(dim=1, keepdim=True)
    corrected = number * total - (number - 1) * mean
    return corrected[:, 0], (number - 1) * (mean - without)


def _estimate(values: Tensor, influence: Tensor) -> TiltEstimate:
    prompts, number = influence.shape
    variances = influence.square().sum(dim=1) / (number * (number - 1))
    return TiltEstimate(float(values.mean()), float(variances.sum().sqrt()) / prompts)
