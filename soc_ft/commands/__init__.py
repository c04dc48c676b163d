"""The command lines: each composes a configuration, checks it, and calls what does the work."""
