"""Estimates with standard errors, and the pictures and plots that show them."""
