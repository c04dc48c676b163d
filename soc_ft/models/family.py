"""What the package must know of a family of models; each family is one file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from soc_ft.core import Condition


class Family(nn.Module, ABC):
    """Text encoder, denoising network and decoder of a pretrained model.

    Latents are those that the network sees (scaled). Networks, anchors, guidance, LoRA and export
    formats are shared by all families and know nothing else.

    Attributes:
        network: the pretrained denoising network, frozen.
    """

    network: nn.Module

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of the latents of one picture."""

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Condition:
        """What the network is conditioned on, in float32: a row for each prompt."""

    @property
    @abstractmethod
    def prompt_length(self) -> int:
        """Tokens of a prompt that are read; what comes after them is left out."""

    @abstractmethod
    def count_truncated(self, prompts: Sequence[str]) -> int:
        """How many prompts are longer than :attr:`prompt_length`."""

    def guidance_embedding(self, scale: float) -> Tensor | None:
        """(D,) float32, what :attr:`network` is told of a guidance scale, on its device.

        :meth:`call` finds it in the condition, as ``guidance`` (N, D). None: the network is told
        nothing, and guided by a second prediction for the empty prompt.
        """
        return None

    @abstractmethod
    def call(self, network: nn.Module, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Output of a network like :attr:`network`.

        Args:
            network: it, or a copy with other weights.
            x: (N, *latent).
            t: (N,) float32 times.
            condition: N rows.

        Returns:
            (N, *latent), the network's own output, in the dtype of ``x``.
        """

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] of clean latents (B, *latent); differentiable."""

    @abstractmethod
    def last_layer(self, network: nn.Module) -> nn.Conv2d:
        """The layer whose output is that of the network."""

    @abstractmethod
    def use_plain_attention(self) -> None:
        """Compute attention as two matrix products instead of PyTorch's fused operation."""

    @abstractmethod
    def enable_decoder_checkpointing(self) -> None:
        """Recompute the decoder's activations in the backward pass."""

    @abstractmethod
    def save_folder(self, network: nn.Module, scheduler: object, folder: Path) -> None:
        """Write a diffusers folder with ``network`` and a scheduler of diffusers in it."""

    @abstractmethod
    def read_folder(self, folder: Path) -> dict[str, Tensor]:
        """The network's weights in a folder from :meth:`save_folder`, by name."""

    @abstractmethod
    def read_lora(self, file: Path) -> tuple[dict[str, Tensor], float | None]:
        """LoRA weights in a file from :meth:`save_lora`, by name, without that of an adapter.

        Returns:
            The weights, and alpha / rank if the file says it.
        """

    @abstractmethod
    def save_lora(self, network: nn.Module, folder: Path) -> None:
        """Write the trained LoRA weights of ``network`` for ``load_lora_weights``."""
