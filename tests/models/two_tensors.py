"""A family that has nothing of Stable Diffusion: another condition, network, decoder and latent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from soc_ft.core import Condition
from soc_ft.models.family import Family
from soc_ft.models.finetune import FineTuning
from soc_ft.models.model import DiffusionModel
from soc_ft.models.scheduler import SOCDDIMScheduler

CHANNELS, HEIGHT, WIDTH = 3, 6, 4
LENGTH, WIDTH_OF_TOKEN, WIDTH_OF_POOLED = 5, 7, 11


class Net(nn.Module):
    """Convolutions with the two tensors of the condition, and the time, added in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(CHANNELS, 8, 3, padding=1)
        self.sequence = nn.Linear(WIDTH_OF_TOKEN, 8)
        self.pooled = nn.Linear(WIDTH_OF_POOLED, 8)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Conv2d(8, CHANNELS, 3, padding=1)
        self.recomputes = False

    def enable_gradient_checkpointing(self) -> None:
        self.recomputes = True

    def forward(self, x: Tensor, t: Tensor, sequence: Tensor, pooled: Tensor) -> Tensor:
        added = self.sequence(sequence.tanh()).sum(dim=1) + self.pooled(pooled)
        added = added * (1 + t.to(x.dtype)[:, None] / 1000)

        def block(x: Tensor) -> Tensor:
            return self.dropout(functional.silu(self.first(x) + added[:, :, None, None]))

        if self.recomputes and torch.is_grad_enabled():
            hidden = checkpoint(block, x, use_reentrant=False)
        else:
            hidden = block(x)
        return self.last(hidden)


class TwoTensors(Family):
    """Conditions are a ``sequence`` (N, L, D) and a vector ``pooled`` (N, E) of the letters."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = Net()
            self.letters = nn.Embedding(256, WIDTH_OF_TOKEN)
            self.pool = nn.Linear(WIDTH_OF_TOKEN, WIDTH_OF_POOLED)
            self.decoder = nn.ConvTranspose2d(CHANNELS, 3, 2, stride=2)
        self.requires_grad_(False)
        self.plain = self.recomputes_decoder = False

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return CHANNELS, HEIGHT, WIDTH

    def encode(self, prompts: Sequence[str]) -> Condition:
        letters = [prompt.encode()[:LENGTH].ljust(LENGTH) for prompt in prompts]
        sequence = self.letters(torch.tensor([list(each) for each in letters]))
        return Condition(
            sequence=sequence.float(), pooled=self.pool(sequence.sum(dim=1)).tanh().float()
        )

    @property
    def prompt_length(self) -> int:
        return LENGTH

    def count_truncated(self, prompts: Sequence[str]) -> int:
        return sum(len(prompt.encode()) > LENGTH for prompt in prompts)

    def call(self, network: nn.Module, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        dtype = next(network.parameters()).dtype
        sequence, pooled = condition.sequence.to(dtype), condition.pooled.to(dtype)
        output: Tensor = network(x.to(dtype), t, sequence, pooled)
        return output.to(x.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        dtype = self.decoder.weight.dtype
        return self.decoder(latents.to(dtype)).sigmoid().to(latents.dtype)

    def last_layer(self, network: nn.Module) -> nn.Conv2d:
        assert isinstance(network, Net)
        return network.last

    def use_plain_attention(self) -> None:
        self.plain = True

    def enable_decoder_checkpointing(self) -> None:
        self.recomputes_decoder = True

    def save_folder(self, network: nn.Module, scheduler: object, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        save_file(weights, folder / "network.safetensors")

    def read_folder(self, folder: Path) -> dict[str, Tensor]:
        state: dict[str, Tensor] = load_file(folder / "network.safetensors")
        return state

    def read_lora(self, file: Path) -> NoReturn:
        raise NotImplementedError

    def save_lora(self, network: nn.Module, folder: Path) -> NoReturn:
        raise NotImplementedError


def make_other(finetune: FineTuning, **options: object) -> DiffusionModel:
    """A model of this family; the same weights each time."""
    scheduler = SOCDDIMScheduler(
        beta_start=0.002,
        beta_end=0.009,
        beta_schedule="scaled_linear",
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type="v_prediction",
    )
    return DiffusionModel(TwoTensors(), finetune, scheduler, **options)  # type: ignore[arg-type]
