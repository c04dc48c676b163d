"""Compressibility: the size of the picture as a JPEG (Black et al. 2023, DDPO)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field

if TYPE_CHECKING:
    import torch

Quality = Annotated[int, Field(ge=1, le=95, strict=True)]


class JPEGCompressibility:
    """Minus the size of the picture as a JPEG, in kB (1000 bytes)."""

    name: ClassVar[str] = "jpeg_compressibility"
    differentiable: ClassVar[bool] = False

    def __init__(self, quality: Quality = 95) -> None:
        """Choose the encoder's quality.

        Args:
            quality: of the encoder, 1 to 95.
        """
        self.quality = quality

    def __call__(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] -> (B,); the prompts do not matter."""
        import torch

        sizes = [self._kilobytes(image) for image in images]
        return -torch.tensor(sizes, dtype=torch.float32, device=images.device)

    def to(self, device: torch.device) -> Self:
        """Nothing to move."""
        return self

    def _kilobytes(self, image: torch.Tensor) -> float:
        from torchvision.transforms.functional import to_pil_image

        encoded = io.BytesIO()
        levels = (image.clamp(0, 1) * 255).round().byte().cpu()
        to_pil_image(levels).save(encoded, "JPEG", quality=self.quality)
        return encoded.tell() / 1000


class JPEGIncompressibility(JPEGCompressibility):
    """The size of the picture as a JPEG, in kB (1000 bytes): detail and noise score high.

    Args:
        quality: of the encoder, 1 to 95.
    """

    name: ClassVar[str] = "jpeg_incompressibility"

    def __call__(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] -> (B,); the prompts do not matter."""
        return -super().__call__(images, prompts)
