"""``python -m soc_ft.evaluate``: rewards and diversity of a base model and of what a run made."""

from __future__ import annotations

from omegaconf import DictConfig

from soc_ft.commands.entry import run_command


def evaluate(config: DictConfig) -> None:
    """Validate the configuration, then evaluate and print the table."""
    from soc_ft.evaluation.checks import check_evaluation

    plan = check_evaluation(config)
    from soc_ft.evaluation.run import run_evaluation

    run_evaluation(plan, config)


def main() -> None:
    """Entry point of the command line."""
    run_command(evaluate, "evaluate", "commands", texts=("prompts",))
