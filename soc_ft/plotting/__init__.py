"""Plots and sample sheets."""
