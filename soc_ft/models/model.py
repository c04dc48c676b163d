"""A pretrained model and the network that is fine-tuned from it, as predictors of the core."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn

from soc_ft.core import Condition
from soc_ft.errors import ConfigError
from soc_ft.models.family import Family
from soc_ft.models.finetune import FineTuning
from soc_ft.models.scheduler import ControlScheduler
from soc_ft.profiling import EvaluationCounter

_log = logging.getLogger(__name__)

Attention = Literal["auto", "plain"]
Network = Callable[[Tensor, Tensor, Condition], Tensor]


class DiffusionModel(nn.Module):
    """Text encoder, decoder, base predictor and trained predictor, whatever the family.

    ``base`` and ``trained`` are predictors of the core: (x (N, *latent), t (N,) float32 times,
    condition of N rows) -> the network's own output (N, *latent), in the dtype of x. Latents are
    those that the network sees (scaled).

    The module is always in evaluation mode: with dropout, the predictor that is regressed would not
    be the one that sampled.

    Attributes:
        family: encodes, decodes and calls networks.
        networks: base, trained and anchors.
        scheduler: of sampling and fine-tuning; makes their processes.
        guidance_scale: recommended for this checkpoint; applied nowhere here.
        counter: counts evaluations of the networks.
    """

    def __init__(
        self,
        family: Family,
        finetune: FineTuning,
        scheduler: ControlScheduler,
        *,
        frozen_dtype: torch.dtype = torch.float32,
        attention: Attention = "auto",
        network_checkpointing: bool = False,
        decoder_checkpointing: bool = False,
        guidance_scale: float = 1.0,
    ) -> None:
        """Prepare a pretrained model for fine-tuning.

        Args:
            family: gives its network away, which is changed in place.
            finetune: what is trained.
            scheduler: of sampling and fine-tuning.
            frozen_dtype: of all weights that are not trained. Trained weights stay in float32, and
                start from the base model's in ``frozen_dtype``.
            attention: "auto" is PyTorch's fused attention; "plain" is two matrix products.
            network_checkpointing: recompute activations of the networks in the backward pass.
            decoder_checkpointing: recompute those of the decoder.
            guidance_scale: see the class.
        """
        super().__init__()
        self.family = family
        if attention == "plain":
            family.use_plain_attention()
        # Before what is trained is made of it: so that starts from the same, rounded weights.
        for parameter in family.parameters():
            parameter.data = parameter.data.to(frozen_dtype)
        self.networks = finetune.attach(family)
        self.scheduler = scheduler
        self.guidance_scale = guidance_scale
        self.counter = EvaluationCounter()
        for parameter in self.networks.trainable_parameters():
            parameter.data = parameter.data.float()
        # The layout that convolutions are fastest in, on CPUs and on tensor cores.
        self.to(memory_format=torch.channels_last)
        if network_checkpointing:
            self.networks.enable_gradient_checkpointing()
        if decoder_checkpointing:
            family.enable_decoder_checkpointing()
        self.train(False)
        self._null_names = []
        for name, tensor in self.encode([""]).tensors.items():
            self.register_buffer(f"_null_{name}", tensor, persistent=False)
            self._null_names.append(name)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever ``mode`` is; gradients are not affected."""
        return super().train(False)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of the latents of one picture."""
        return self.family.latent_shape

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.null_condition().device

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Condition:
        """What the networks are conditioned on, in float32: a row for each prompt."""
        return self.family.encode(prompts)

    def warn_of_truncated(self, prompts: Sequence[str]) -> None:
        """Log how many prompts are longer than what is read of them, if some are."""
        if count := self.family.count_truncated(prompts):
            _log.warning(
                "%d of %d prompts are longer than the %d tokens that the text encoder reads; "
                "what comes after them is left out",
                count,
                len(prompts),
                self.family.prompt_length,
            )

    def null_condition(self) -> Condition:
        """The condition of the empty prompt, one row."""
        return Condition(**{name: getattr(self, f"_null_{name}") for name in self._null_names})

    def decode(self, latents: Tensor, micro_batch: int | None = None) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] of latents (B, *latent); differentiable.

        Args:
            latents: clean latents.
            micro_batch: pictures decoded at a time; None is all. Without gradients it bounds the
                memory. With them the activations of all parts are kept (but see
                ``decoder_checkpointing``).
        """
        parts = latents.split(micro_batch or len(latents))
        return torch.cat([self.family.decode(part) for part in parts])

    def base(
        self, x: Tensor, t: Tensor, condition: Condition, guidance_scale: float = 1.0
    ) -> Tensor:
        """Output of the base model (N, *latent).

        A ``guidance_scale`` w other than 1 gives f(null) + w (f(condition) - f(null)), from one
        batch of 2N (Ho & Salimans 2022, in the parametrisation of diffusers). A network that was
        distilled from guided predictions is told w instead, and evaluated once.

        Args:
            x: (N, *latent).
            t: (N,) float32 times.
            condition: N rows.
            guidance_scale: w.
        """
        return self._guided(self.networks.base_output, x, t, condition, guidance_scale)

    def trained(
        self,
        x: Tensor,
        t: Tensor,
        condition: Condition,
        guidance_scale: float = 1.0,
        base_prediction: Tensor | None = None,
    ) -> Tensor:
        """Output of the trained model (N, *latent); guidance as in ``base``.

        Args:
            x: (N, *latent).
            t: (N,) float32 times.
            condition: N rows.
            guidance_scale: w.
            base_prediction: (N, *latent), ``base`` at the same arguments if it is known. Saves its
                evaluation where the trained network adds to the base; unused otherwise.
        """
        output = self._guided(self.networks.trained_output, x, t, condition, guidance_scale)
        return self._added(output, x, t, condition, guidance_scale, base_prediction)

    @torch.no_grad()
    def anchor(
        self, name: str, x: Tensor, t: Tensor, condition: Condition, guidance_scale: float = 1.0
    ) -> Tensor:
        """Output of an anchor (N, *latent), without gradient; guidance as in ``base``.

        Args:
            name: of the anchor.
            x: (N, *latent).
            t: (N,) float32 times.
            condition: N rows.
            guidance_scale: w.

        Raises:
            KeyError: there is no such anchor.
        """

        def network(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
            return self.networks.anchor_output(name, x, t, condition)

        output = self._guided(network, x, t, condition, guidance_scale)
        return self._added(output, x, t, condition, guidance_scale, None)

    def add_anchor(self, name: str) -> None:
        """Keep a copy of the trained weights as they are now, to be evaluated beside them.

        Args:
            name: an identifier; an anchor that has it already starts anew.

        Raises:
            ValueError: the name is no identifier.
        """
        self.networks.add_anchor(name)

    def _added(
        self,
        output: Tensor,
        x: Tensor,
        t: Tensor,
        condition: Condition,
        guidance_scale: float,
        base_prediction: Tensor | None,
    ) -> Tensor:
        """The output itself, or what it is an offset of added to it."""
        if not self.networks.additive:
            return output
        if base_prediction is None:
            base_prediction = self.base(x, t, condition, guidance_scale)
        return base_prediction + output

    def _guided(
        self, network: Network, x: Tensor, t: Tensor, condition: Condition, guidance_scale: float
    ) -> Tensor:
        told = self.family.guidance_embedding(guidance_scale)
        if told is not None:
            condition = Condition(**condition.tensors, guidance=told.expand(len(x), -1))
        if told is not None or guidance_scale == 1.0:
            return self._counted(network(x, t, condition))
        both = Condition.cat([self.null_condition().expand(len(x)), condition])
        output = network(torch.cat([x, x]), torch.cat([t, t]), both)
        unconditional, conditional = self._counted(output).chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    def _counted(self, output: Tensor) -> Tensor:
        self.counter.record(output)
        return output

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters to optimise, in the order of ``trainable_state``."""
        return self.networks.trainable_parameters()

    def trainable_state(self) -> dict[str, Tensor]:
        """The trained weights by name, sharing memory with the model.

        The names are those of the trained network (with PEFT's layers under LoRA).
        """
        return self.networks.trainable_state()

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy weights saved from ``trainable_state`` into the model.

        Raises:
            ConfigError: names are missing or left over, or a shape differs. Nothing is copied then.
        """
        _copy_into(self.trainable_state(), state)

    def anchor_states(self) -> dict[str, dict[str, Tensor]]:
        """The weights of all anchors, each as ``trainable_state``."""
        return {name: self.networks.anchor_state(name) for name in self.networks.anchor_names}

    def load_anchor_states(self, states: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy weights saved from ``anchor_states`` into the model's anchors.

        Raises:
            ConfigError: an anchor is missing, or the weights of one do not fit. Nothing is copied
                then.
        """
        own: dict[str, Tensor] = {}
        given: dict[str, Tensor] = {}
        for anchor, state in self.anchor_states().items():
            if anchor not in states:
                raise ConfigError(f"the checkpoint has no anchor {anchor!r}; check method")
            own |= {f"{anchor}.{name}": tensor for name, tensor in state.items()}
            given |= {f"{anchor}.{name}": tensor for name, tensor in states[anchor].items()}
        _copy_into(own, given)


def _copy_into(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    if problem := _mismatch(own, given):
        raise ConfigError(
            f"the checkpoint does not fit the model, check model and finetune: {problem}"
        )
    for name, tensor in own.items():
        tensor.copy_(given[name])


def _mismatch(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """Say how ``given`` differs from ``own`` in names or shapes."""
    differences = {
        "missing": sorted(own.keys() - given.keys()),
        "unknown": sorted(given.keys() - own.keys()),
        "of another shape": sorted(
            name for name in own.keys() & given.keys() if own[name].shape != given[name].shape
        ),
    }
    found = [
        f"{len(names)} weights {what} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for what, names in differences.items()
        if names
    ]
    return "; ".join(found) or None
