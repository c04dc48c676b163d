"""One fine-tuning run, from its configuration to its exported model."""
