"""The denoising networks behind a fine-tuned model: a frozen base and what is trained."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from soc_ft.errors import ConfigError


class Networks(nn.Module, ABC):
    """Base and trained network of a fine-tuning mode.

    Attributes:
        trained: the module that holds the trainable parameters.
        additive: the trained network gives an offset of the base model's eps_hat, instead of a
            prediction of its own.
    """

    def __init__(self, trained: UNet2DConditionModel, *, additive: bool = False) -> None:
        super().__init__()
        self.trained = trained
        self.additive = additive

    @abstractmethod
    def base_output(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Output of the base network (N, *latent), in its own prediction type."""

    def trained_output(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Output of the trained network (N, *latent), in its prediction type or as an offset."""
        return _evaluate(self.trained, x, t, condition)

    @abstractmethod
    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass, of the base network's too."""


class TwoNetworks(Networks):
    """A frozen base network beside a trained one."""

    def __init__(
        self, base: UNet2DConditionModel, trained: UNet2DConditionModel, *, additive: bool
    ) -> None:
        super().__init__(trained, additive=additive)
        self.base = base

    def base_output(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Output of the frozen network."""
        return _evaluate(self.base, x, t, condition)

    def enable_gradient_checkpointing(self) -> None:
        """Switch it on in both networks."""
        self.base.enable_gradient_checkpointing()
        self.trained.enable_gradient_checkpointing()


class AdaptedNetwork(Networks):
    """One network with LoRA layers: on it is the trained network, off the base."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        *,
        rank: int,
        alpha: float,
        targets: Sequence[str],
        seed: int,
    ) -> None:
        _add_adapter(unet, rank, alpha, list(targets), seed)
        super().__init__(unet)
        self._adapters = [module for module in unet.modules() if isinstance(module, BaseTunerLayer)]
        self._adapted = True

    def base_output(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Output with the adapters off."""
        with self._base_network():
            return _evaluate(self.trained, x, t, condition)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute each block as the network, base or trained, that it was evaluated in."""
        self.trained.enable_gradient_checkpointing(self._checkpoint)

    def _checkpoint(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        # The backward pass runs after base_output has switched the adapters on again.
        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), nullcontext() if adapted else self._base_network()

        adapted = self._adapted
        return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)

    @contextmanager
    def _base_network(self) -> Iterator[None]:
        self._switch(adapted=False)
        try:
            yield
        finally:
            self._switch(adapted=True)

    def _switch(self, *, adapted: bool) -> None:
        for layer in self._adapters:
            layer.enable_adapters(adapted)
        self._adapted = adapted


def _add_adapter(
    unet: UNet2DConditionModel, rank: int, alpha: float, targets: list[str], seed: int
) -> None:
    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        init_lora_weights="gaussian",
        target_modules=targets,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            unet.add_adapter(settings)
        except ValueError as error:
            raise ConfigError(f"finetune.targets={targets}: {error}") from None


def _evaluate(unet: UNet2DConditionModel, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    """Evaluate in the network's dtype and answer in that of ``x``; ``t`` stays an integer."""
    output = unet(
        x.to(unet.dtype),
        t,
        encoder_hidden_states=condition.to(unet.dtype),
        return_dict=False,
    )[0]
    return output.to(x.dtype)


def trainable_copy(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A copy of ``unet`` whose parameters require gradients."""
    return copy.deepcopy(unet).requires_grad_(True)


def reinitialise(layer: nn.Conv2d, scale: float, seed: int) -> None:
    """Draw weights from N(0, (scale / sqrt(fan-in))^2) and set the bias to zero."""
    fan_in = layer.weight[0].numel()
    drawn = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        layer.weight.copy_(drawn * scale / fan_in**0.5)
        if layer.bias is not None:
            layer.bias.zero_()
