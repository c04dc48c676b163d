"""The embedded miniature Stable Diffusion, its reward and its ground-truth judge."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).parent
"""Folder of the shipped files."""

DIFFUSION = ASSETS / "shapes-diffusion"
STUDENT = ASSETS / "shapes-lcm-diffusion"
REWARD = ASSETS / "shapes-reward"
JUDGE = ASSETS / "shapes-judge"
