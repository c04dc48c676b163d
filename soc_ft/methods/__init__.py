"""Fine-tuning methods: each one file, torch and the core only."""
