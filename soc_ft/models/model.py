"""A Stable Diffusion and the network that is fine-tuned from it, as predictors of the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Self

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from soc_ft.errors import ConfigError
from soc_ft.models.finetune import FineTuning
from soc_ft.models.prediction import to_epsilon
from soc_ft.models.scheduler import SOCDDIMScheduler
from soc_ft.profiling import EvaluationCounter

Attention = Literal["auto", "plain"]


class DiffusionModel(nn.Module):
    """Text encoder, decoder, base predictor and fine-tuned predictor of a Stable Diffusion.

    Latents are those that the UNet sees (scaled). ``base`` and ``finetuned`` are predictors of the
    core: (x (N, *latent), t (N,) int64 training timesteps, condition (N, L, D)) -> eps_hat
    (N, *latent), in the dtype of x. eps_hat refers to the alpha_bar of ``scheduler``, as in
    diffusers.

    The module is always in evaluation mode: with dropout, the predictor that is regressed would not
    be the one that sampled.

    Args:
        pipeline: gives its parts away to the model, which freezes and changes them in place.
        finetune: what is trained.
        scheduler: of sampling and fine-tuning.
        frozen_dtype: of all weights that are not trained. Trained weights stay in float32.
        attention: "auto" is PyTorch's fused attention; "plain" is two matrix products.
        gradient_checkpointing: recompute activations of the networks and of the decoder in the
            backward pass.
        guidance_scale: recommended for this checkpoint; kept as an attribute, applied nowhere here.
    """

    alphas_cumprod: Tensor
    _null_condition: Tensor

    def __init__(
        self,
        pipeline: StableDiffusionPipeline,
        finetune: FineTuning,
        scheduler: SOCDDIMScheduler,
        *,
        frozen_dtype: torch.dtype = torch.float32,
        attention: Attention = "auto",
        gradient_checkpointing: bool = False,
        guidance_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.tokenizer = pipeline.tokenizer
        self.text_encoder = pipeline.text_encoder.requires_grad_(False)
        self.vae = pipeline.vae.requires_grad_(False)
        unet = pipeline.unet.requires_grad_(False)
        if attention == "plain":
            self.vae.set_attn_processor(AttnProcessor())
            unet.set_attn_processor(AttnProcessor())
        self.networks = finetune.attach(unet)
        self.scheduler = scheduler
        self.guidance_scale = guidance_scale
        self.counter = EvaluationCounter()

        trained = self.networks.trained.named_parameters()
        self._trainable = [name for name, parameter in trained if parameter.requires_grad]
        for parameter in self.parameters():
            dtype = torch.float32 if parameter.requires_grad else frozen_dtype
            parameter.data = parameter.data.to(dtype)
        # The layout that convolutions are fastest in, on CPUs and on tensor cores.
        self.to(memory_format=torch.channels_last)
        if gradient_checkpointing:
            self.networks.enable_gradient_checkpointing()
            self.vae.enable_gradient_checkpointing()
        self.train(False)
        self.register_buffer("alphas_cumprod", scheduler.alphas_cumprod.clone(), persistent=False)
        self.register_buffer("_null_condition", self.encode([""]), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever ``mode`` is; gradients are not affected."""
        return super().train(False)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the latents of one picture."""
        config = self.networks.trained.config
        size = config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return config.in_channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.alphas_cumprod.device

    def use_scheduler(self, scheduler: SOCDDIMScheduler) -> None:
        """Predict with the noise levels of another scheduler, adapted from this model's own."""
        self.scheduler = scheduler
        self.alphas_cumprod.copy_(scheduler.alphas_cumprod)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Text-encoder states (B, L, D) in float32, as ``StableDiffusionPipeline.encode_prompt``.

        Prompts are padded and truncated to the tokenizer's length L.
        """
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        uses_mask = getattr(self.text_encoder.config, "use_attention_mask", False)
        device = self.text_encoder.device
        states = self.text_encoder(
            tokens.input_ids.to(device),
            attention_mask=tokens.attention_mask.to(device) if uses_mask else None,
        )[0]
        return states.float()

    def null_condition(self) -> Tensor:
        """(1, L, D), the condition of the empty prompt."""
        return self._null_condition

    def decode(self, latents: Tensor, micro_batch: int | None = None) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] of latents (B, *latent); differentiable.

        Values are clamped to [0, 1] as the pipeline does, so the gradient is that of the picture
        that is seen: zero for channels of pixels that are black or white beyond the range.

        Args:
            latents: clean latents.
            micro_batch: pictures decoded at a time; None is all. Without gradients it bounds the
                memory. With them the activations of all parts are kept (but see
                ``gradient_checkpointing``).
        """
        parts = latents.split(micro_batch or len(latents))
        return torch.cat([self._decode(part) for part in parts])

    def _decode(self, latents: Tensor) -> Tensor:
        config = self.vae.config
        unscaled = latents / config.scaling_factor + (config.shift_factor or 0.0)
        decoded = self.vae.decode(unscaled.to(self.vae.dtype), return_dict=False)[0]
        return (decoded.to(latents.dtype) / 2 + 0.5).clamp(0, 1)

    def base(self, x: Tensor, t: Tensor, condition: Tensor, guidance_scale: float = 1.0) -> Tensor:
        """eps_hat of the base model.

        A ``guidance_scale`` w other than 1 gives eps(null) + w (eps(condition) - eps(null)), from
        one batch of 2N (Ho & Salimans 2022, in the parametrisation of diffusers).
        """
        output = self._guided(self.networks.base_output, x, t, condition, guidance_scale)
        return self._to_epsilon(output, x, t)

    def finetuned(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor,
        guidance_scale: float = 1.0,
        base_prediction: Tensor | None = None,
    ) -> Tensor:
        """eps_hat of the fine-tuned model; guidance as in ``base``.

        Args:
            x: (N, *latent).
            t: (N,) int64 training timesteps.
            condition: (N, L, D).
            guidance_scale: w.
            base_prediction: (N, *latent), ``base`` at the same arguments if it is known. Saves its
                evaluation where the trained network adds to the base; unused otherwise.
        """
        output = self._guided(self.networks.trained_output, x, t, condition, guidance_scale)
        if not self.networks.additive:
            return self._to_epsilon(output, x, t)
        if base_prediction is None:
            base_prediction = self.base(x, t, condition, guidance_scale)
        return base_prediction + output

    def _guided(
        self,
        network: Callable[[Tensor, Tensor, Tensor], Tensor],
        x: Tensor,
        t: Tensor,
        condition: Tensor,
        guidance_scale: float,
    ) -> Tensor:
        if guidance_scale == 1.0:
            return self._counted(network(x, t, condition))
        null = self._null_condition.to(condition).expand_as(condition)
        output = network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([null, condition]))
        unconditional, conditional = self._counted(output).chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    def _counted(self, output: Tensor) -> Tensor:
        self.counter.record(output)
        return output

    def _to_epsilon(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = self.alphas_cumprod[t].to(x.dtype).view(-1, *[1] * (x.ndim - 1))
        return to_epsilon(output, x, alpha_bar, self.scheduler.config.prediction_type)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters to optimise, in the order of ``trainable_state``."""
        return (self.networks.trained.get_parameter(name) for name in self._trainable)

    def trainable_state(self) -> dict[str, Tensor]:
        """The trained weights by name, sharing memory with the model.

        The names are those of the trained UNet (with PEFT's layers under LoRA).
        """
        trained = self.networks.trained
        return {name: trained.get_parameter(name).detach() for name in self._trainable}

    @torch.no_grad()
    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy weights saved from ``trainable_state`` into the model.

        Raises:
            ConfigError: names are missing or left over, or a shape differs. Nothing is copied then.
        """
        own = self.trainable_state()
        if problem := _mismatch(own, state):
            raise ConfigError(
                f"the checkpoint does not fit the model, check model and finetune: {problem}"
            )
        for name, tensor in own.items():
            tensor.copy_(state[name])


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
