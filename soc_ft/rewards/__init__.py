"""Rewards: each one file, with its heavy imports inside its methods."""
