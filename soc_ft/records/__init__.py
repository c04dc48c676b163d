"""What is on disk of runs and sweeps: names of files, configurations, curves, origins."""
