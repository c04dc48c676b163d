"""Fine-tune text-to-image diffusion models on a reward by stochastic optimal control."""

__version__ = "0.1.0"
