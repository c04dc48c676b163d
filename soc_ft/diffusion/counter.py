"""What a run costs, in evaluations of the denoising network."""

from __future__ import annotations

from torch import Tensor


class EvaluationCounter:
    """Counts network evaluations times samples, where the network is called.

    A guided prediction counts two per sample. The forward passes that gradient checkpointing
    repeats are part of the backward pass and are not counted.

    Attributes:
        forward: samples that went through a network.
        backward: samples whose gradient came back through it.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start over from zero."""
        self.forward = 0
        self.backward = 0

    def snapshot(self) -> dict[str, int]:
        """The counts so far, under the names of the attributes."""
        return {"forward": self.forward, "backward": self.backward}

    def record(self, output: Tensor) -> None:
        """Count a network's fresh ``output`` (N, ...), and its backward pass when that happens."""
        samples = len(output)
        self.forward += samples
        if output.requires_grad:
            output.register_hook(lambda _: self._add_backward(samples))

    def _add_backward(self, samples: int) -> None:
        self.backward += samples
