"""Training of the embedded model from scratch: ``python -m soc_ft.world.training``."""
