"""Stable Diffusion from diffusers, as base and fine-tuned predictors for the control core."""
