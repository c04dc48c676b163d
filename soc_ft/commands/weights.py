"""``soc-ft weights``: download what a configuration needs."""

from __future__ import annotations

from omegaconf import DictConfig

from soc_ft.commands.entry import run_command


def download(config: DictConfig) -> None:
    """Download the weights of the model, the reward and the metrics, unless they are there."""
    from soc_ft.config import parse
    from soc_ft.config.weights import download_all

    run, _ = parse(config)
    download_all(run)


def main() -> None:
    """Entry point of the command line."""
    run_command(download, "weights")
