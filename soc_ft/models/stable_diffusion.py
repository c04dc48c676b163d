"""Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from torch import Tensor, nn

from soc_ft.core import Condition
from soc_ft.models.bars import no_bars
from soc_ft.models.family import Family


class StableDiffusion(Family):
    """CLIP's text encoder, a UNet and an autoencoder; the condition is a ``sequence`` (N, L, D).

    UNets that are told the guidance scale (``time_cond_proj_dim``) have ``guidance`` (N, E) too.

    Attributes:
        tokenizer: of the text encoder.
        text_encoder: frozen.
        vae: the autoencoder, frozen.
    """

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        """Take the parts of a pipeline, which gives them away: they are frozen in place."""
        super().__init__()
        self.tokenizer = pipeline.tokenizer
        self.text_encoder = pipeline.text_encoder.requires_grad_(False)
        self.vae = pipeline.vae.requires_grad_(False)
        self.network = pipeline.unet.requires_grad_(False)
        self._guidance: dict[tuple[float, torch.device], Tensor] = {}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        config: Any = self.network.config
        size = config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return config.in_channels, height, width

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Text-encoder states in float32, as ``StableDiffusionPipeline.encode_prompt``.

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
        return Condition(sequence=states.float())

    @property
    def prompt_length(self) -> int:
        """The tokenizer's, with the tokens of start and end."""
        length: int = self.tokenizer.model_max_length
        return length

    def count_truncated(self, prompts: Sequence[str]) -> int:
        """As the tokenizer counts."""
        # A token holds a byte at least, so that most prompts need not be tokenized.
        long = [each for each in prompts if len(each.encode()) > self.prompt_length - 2]
        tokens = self.tokenizer(long, verbose=False).input_ids if long else []
        return sum(len(each) > self.prompt_length for each in tokens)

    def guidance_embedding(self, scale: float) -> Tensor | None:
        """Sines and cosines of w - 1, as the pipelines have them; None for most models."""
        config: Any = self.network.config
        if config.time_cond_proj_dim is None:
            return None
        place = (scale, self.text_encoder.device)
        if place not in self._guidance:  # made on the CPU: a copy of each would be waited for
            (embedding,) = StableDiffusionPipeline.get_guidance_scale_embedding(
                None,  # nothing of a pipeline is used
                torch.tensor([scale - 1]),
                config.time_cond_proj_dim,
            )
            self._guidance[place] = embedding.to(place[1])
        return self._guidance[place]

    def call(self, network: nn.Module, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Output of a UNet, evaluated in its own dtype; the times stay in float32."""
        unet: Any = network
        dtype = unet.dtype
        guidance = condition.tensors.get("guidance")
        output: Tensor = unet(
            x.to(dtype),
            t,
            encoder_hidden_states=condition.sequence.to(dtype),
            timestep_cond=None if guidance is None else guidance.to(dtype),
            return_dict=False,
        )[0]
        return output.to(x.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents (B, C, h, w), clamped to [0, 1] as the pipeline does.

        So the gradient is that of the picture that is seen: zero for channels of pixels that are
        black or white beyond the range.
        """
        config = self.vae.config
        unscaled = latents / config.scaling_factor + (config.shift_factor or 0.0)
        decoded = self.vae.decode(unscaled.to(self.vae.dtype), return_dict=False)[0]
        return (decoded.to(latents.dtype) / 2 + 0.5).clamp(0, 1)

    def last_layer(self, network: nn.Module) -> nn.Conv2d:
        """The UNet's last convolution."""
        layer = network.conv_out
        assert isinstance(layer, nn.Conv2d)
        return layer

    def use_plain_attention(self) -> None:
        """In the UNet and the autoencoder."""
        for part in (self.vae, self.network):
            part.set_attn_processor(AttnProcessor())  # type: ignore[operator]

    def enable_decoder_checkpointing(self) -> None:
        """Of the autoencoder."""
        self.vae.enable_gradient_checkpointing()

    def save_folder(self, network: nn.Module, scheduler: object, folder: Path) -> None:
        """What ``StableDiffusionPipeline.from_pretrained`` loads."""
        pipeline = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=network,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        # safetensors holds contiguous tensors only; the model computes in another layout.
        for part in (pipeline.unet, pipeline.vae):
            part.to(memory_format=torch.contiguous_format)
        with no_bars():
            pipeline.save_pretrained(folder)
        for part in (pipeline.unet, pipeline.vae):
            part.to(memory_format=torch.channels_last)
        # Stable Diffusion's layout has these two as well, which older readers need.
        self.tokenizer.backend_tokenizer.model.save(str(folder / "tokenizer"))

    def read_folder(self, folder: Path) -> dict[str, Tensor]:
        """The UNet's."""
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True)
        state: dict[str, Tensor] = unet.state_dict()
        return state

    def read_lora(self, file: Path) -> tuple[dict[str, Tensor], float | None]:
        """Those of the UNet; others keep a name that tells."""
        with safe_open(file, "pt") as opened:
            settings = json.loads((opened.metadata() or {}).get("lora_adapter_metadata", "{}"))
            names = list(opened.keys())
            weights = {name.removeprefix("unet."): opened.get_tensor(name) for name in names}
        rank, alpha = (settings.get(f"unet.{key}") for key in ("r", "lora_alpha"))
        return weights, alpha / rank if rank and alpha else None

    def save_lora(self, network: nn.Module, folder: Path) -> None:
        """``pytorch_lora_weights.safetensors``."""
        adapters: Any = network.peft_config
        # Those of convolutions are in another layout, which safetensors does not hold.
        weights = {
            name: tensor.contiguous() for name, tensor in get_peft_model_state_dict(network).items()
        }
        # PEFT keeps names in sets, whose order differs from one process to the next.
        settings = {
            name: sorted(value) if isinstance(value, set) else value
            for name, value in adapters["default"].to_dict().items()
        }
        StableDiffusionPipeline.save_lora_weights(
            folder, unet_lora_layers=weights, unet_lora_adapter_metadata=settings
        )
