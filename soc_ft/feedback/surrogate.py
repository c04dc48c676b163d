"""A network, or several, that predict the reward from features of pictures."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from soc_ft.feedback.options import Fit, Langevin


class Surrogate(nn.Module):
    """H independent multilayer perceptrons on standardised features.

    Predictions are in the units of the labels.
    """

    def __init__(self, features: int, fit: Fit) -> None:
        """Lay the networks out; nothing is fitted.

        Args:
            features: D of the pictures' features.
            fit: widths, activation and number of the networks.
        """
        super().__init__()
        self.heads = nn.ModuleList(_perceptron(features, fit) for _ in range(fit.heads))
        for name, size in (("feature_mean", features), ("feature_scale", features)):
            self.register_buffer(name, torch.zeros(size))
        for name in ("label_mean", "label_scale"):
            self.register_buffer(name, torch.zeros(()))

    def standardise(self, features: Tensor, labels: Tensor) -> None:
        """Take means and deviations of the data: (n, D) and (n,)."""
        self.feature_mean = features.mean(dim=0)
        self.feature_scale = features.std(dim=0, correction=0).clamp_min(1e-6)
        self.label_mean = labels.mean()
        self.label_scale = labels.std(correction=0).clamp_min(1e-6)

    def standardised(self, features: Tensor) -> Tensor:
        """(B, D) features with the data's mean 0 and deviation 1."""
        return (features - self.feature_mean) / self.feature_scale

    def forward(self, features: Tensor) -> Tensor:
        """(H, B) predictions of (B, D) features."""
        inputs = self.standardised(features)
        outputs = torch.stack([head(inputs).squeeze(-1) for head in self.heads])
        return self.label_mean + self.label_scale * outputs

    def penultimate(self, features: Tensor) -> Tensor:
        """(B, F) activations of the first network that its last layer is linear in."""
        head = self.heads[0]
        assert isinstance(head, nn.Sequential)
        activations: Tensor = head[:-1](self.standardised(features))
        return activations


@dataclass(frozen=True)
class Fitted:
    """A surrogate and how well it predicts what it was not fitted on.

    Attributes:
        surrogate: with the weights of the epoch that predicts best.
        held_out_error: mean absolute error on the held-out labels, over all heads.
        held_out_correlation: of predictions, averaged over heads, and labels; 0 where it is not
            defined.
        label_std: deviation of the held-out labels: the error of a constant is about 0.8 of it.
    """

    surrogate: Surrogate
    held_out_error: float
    held_out_correlation: float
    label_std: float


def fit_surrogate(features: Tensor, labels: Tensor, fit: Fit, seed: int) -> Fitted:
    """Fit a surrogate to labelled features; the same data and seed give the same one.

    A share of the data, drawn at random, is held out: weights are those of the epoch with the
    smallest squared error there, of each head its own. With several heads each sees a resample
    with replacement of the other data, and is chosen by one of the held-out data.

    Networks start anew every time: one that starts from the weights of an earlier stage, as in
    SEIKO's code, gives the old data more than their share (Ash & Adams 2020), and the result would
    depend on how the data came about.

    Args:
        features: (n, D) float32.
        labels: (n,).
        fit: the settings.
        seed: of weights, resamples, order and dropout.
    """
    with torch.random.fork_rng(devices=[features.device] if features.is_cuda else []):
        torch.manual_seed(seed)
        order = torch.randperm(len(labels)).to(features.device)
        held = min(max(round(fit.held_out * len(labels)), 1), len(labels) - 1)
        test, train = order[:held], order[held:]
        surrogate = Surrogate(features.shape[1], fit).to(features.device)
        surrogate.standardise(features[train], labels[train])
        inputs = surrogate.standardised(features)
        targets = (labels - surrogate.label_mean) / surrogate.label_scale
        for head in surrogate.heads:
            own, judged = train, test
            if fit.heads > 1:
                own, judged = _resampled(train), _resampled(test)
            _fit_head(head, inputs, targets, own, judged, fit)
            if fit.langevin is not None:
                noise = fit.langevin.label_noise / float(surrogate.label_scale)
                sample_posterior(head, inputs[own], targets[own], noise, fit.langevin)
    surrogate.requires_grad_(False).eval()
    return _assessed(surrogate, features[test], labels[test])


def sample_posterior(
    network: nn.Module, inputs: Tensor, targets: Tensor, noise: float, settings: Langevin
) -> None:
    """Leave a draw of the posterior of a network's weights in it, by Langevin dynamics.

    The posterior is that of labels with normal noise and weights with a normal prior of deviation
    ``prior_std``. With U the mean over the n data of (f - y)^2 / (2 noise^2), minus the log prior
    divided by n, a step is

        w <- w - step grad U + sqrt(2 step / n) N(0, 1)

    on all data (Welling & Teh 2011, eq. 4, without their minibatches). SEIKO's code adds noise of
    1e-8 to gradients of Adam instead, which draws from nothing.

    Args:
        network: with weights to start from.
        inputs: (n, D).
        targets: (n,).
        noise: deviation of the labels' noise, in the units of the targets.
        settings: number and size of the steps, deviation of the prior.
    """
    n = len(targets)
    weights = list(network.parameters())
    network.eval()
    for _ in range(settings.steps):
        misfit = (network(inputs).squeeze(-1) - targets).square().mean() / (2 * noise**2)
        prior = sum(w.square().sum() for w in weights) / (2 * settings.prior_std**2 * n)
        gradients = torch.autograd.grad(misfit + prior, weights)
        with torch.no_grad():
            for w, gradient in zip(weights, gradients, strict=True):
                w.sub_(settings.step * gradient)
                w.add_(torch.randn_like(w), alpha=(2 * settings.step / n) ** 0.5)


def _fit_head(
    head: nn.Module, inputs: Tensor, targets: Tensor, train: Tensor, test: Tensor, fit: Fit
) -> None:
    """Minimise the squared error on the rows ``train``; keep the weights best on ``test``."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=fit.lr, weight_decay=fit.weight_decay)
    best, kept = float("inf"), copy.deepcopy(head.state_dict())
    for _ in range(fit.epochs):
        head.train()
        for rows in train[torch.randperm(len(train)).to(train.device)].split(fit.batch_size):
            error = (head(inputs[rows]).squeeze(-1) - targets[rows]).square().mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
        head.eval()
        with torch.no_grad():
            found = float((head(inputs[test]).squeeze(-1) - targets[test]).square().mean())
        if found < best:
            best, kept = found, copy.deepcopy(head.state_dict())
    head.load_state_dict(kept)


def _assessed(surrogate: Surrogate, features: Tensor, labels: Tensor) -> Fitted:
    with torch.no_grad():
        predicted = surrogate(features)
    error = float((predicted - labels).abs().mean())
    pair = torch.stack([predicted.mean(dim=0), labels]).double()
    pair = pair - pair.mean(dim=1, keepdim=True)
    norms = pair.norm(dim=1).prod()
    correlation = float(pair.prod(dim=0).sum() / norms) if norms > 0 else 0.0
    return Fitted(surrogate, error, correlation, float(labels.std(correction=0)))


def _resampled(rows: Tensor) -> Tensor:
    return rows[torch.randint(len(rows), (len(rows),)).to(rows.device)]


def _perceptron(features: int, fit: Fit) -> nn.Sequential:
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise((features, *fit.widths))):
        layers.append(nn.Linear(before, after))
        if fit.activation == "silu":
            layers.append(nn.SiLU())
        if place < len(fit.dropout):
            layers.append(nn.Dropout(fit.dropout[place]))
    return nn.Sequential(*layers, nn.Linear((features, *fit.widths)[-1], 1))
