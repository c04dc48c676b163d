"""Measuring the fine-tuned model on held-out prompts, always with the same noise."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor

from soc_ft.config.schema import Validation
from soc_ft.core import Condition, path_control_cost
from soc_ft.distributed import gather_rows
from soc_ft.evaluation.folders import BASE, FINE_TUNED, OWN_SCHEDULE
from soc_ft.evaluation.measuring import Embedding, Metric, compared, of_prompts
from soc_ft.evaluation.reference import beside_optimum
from soc_ft.evaluation.sampling import Samples, sample_trajectories
from soc_ft.evaluation.statistics import Estimate, Scores, mean_and_error, paired_difference
from soc_ft.files import replace_file
from soc_ft.layout import (
    BASE_PICTURES,
    LATEST_PICTURES,
    SAMPLE_FOLDER,
    SHEET_PROMPTS_FILE,
    sheet_name,
)
from soc_ft.methods.problem import PART, Problem, chunks
from soc_ft.models.model import DiffusionModel
from soc_ft.plotting.sheets import picture_grid, save_pictures
from soc_ft.training.standardising import standardise

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationResult:
    """Estimates over prompts, and the pictures of the sample sheet.

    Attributes:
        reward: mean reward.
        gain: paired difference of the reward to the base model (same prompts and noise).
        control_cost: 1/2 sum_k ||sqrt(delta) u_k||^2 of the sampled law, in nats, if measured.
        objective: lambda gain - control cost, which fine-tuning maximises, if that is known.
        diversity: mean squared distance of embeddings of a prompt's pictures, if measured.
        others: the further metrics, and the parts of a composite reward.
        optimum: what was possible, as far as rewards of the base model tell.
        pictures: (prompts on the sheet, 3, H, W) uint8.
    """

    reward: Estimate
    gain: Estimate
    control_cost: Estimate | None
    objective: Estimate | None
    diversity: Estimate | None
    others: dict[str, Estimate]
    optimum: dict[str, Estimate]
    pictures: Tensor

    def estimates(self) -> dict[str, Estimate]:
        """All estimates by name."""
        named = {
            "reward": self.reward,
            "gain": self.gain,
            "control_cost": self.control_cost,
            "objective": self.objective,
            "diversity": self.diversity,
        }
        known = {name: each for name, each in named.items() if each is not None}
        return known | self.optimum | self.others

    def metrics(self) -> dict[str, float]:
        """Means, and standard errors under the name with ``_error`` behind it."""
        flat = {}
        for name, estimate in self.estimates().items():
            flat[name] = estimate.mean
            flat[f"{name}_error"] = estimate.error
        return flat


@rank_zero_only
def _warn_of_broken(rewards: Tensor, name: str) -> None:
    """Say so if the base model's pictures have scores that are not finite."""
    broken = int((~rewards.isfinite()).sum())
    if broken:
        _log.warning(
            "reward %s: %d of %d held-out pictures of the base model have no finite score; means "
            "over them have none either",
            name,
            broken,
            rewards.numel(),
        )


@dataclass
class Validator:
    """Samples P prompts x n pictures; the first measurement is of the base model.

    Attributes:
        model: the model that is measured.
        problem: gives the process and the reward.
        prompts: P held-out prompts.
        settings: sizes and guidance.
        seed: seed of the run.
        embedding: embeds pictures for the diversity metric, or None.
        metrics: further metrics by name.
        folder: where the sample sheets go.
        base_rewards: (P, N) of further pictures of the base model, or None.
        baseline: what was measured of the base model, by prompt, and its pictures.
        latest: what was measured last, by prompt.
        results: metrics by optimizer step.
    """

    model: DiffusionModel
    problem: Problem
    prompts: Sequence[str]
    settings: Validation
    seed: int
    embedding: Embedding | None
    metrics: Mapping[str, Metric]
    folder: Path
    base_rewards: Tensor | None = None
    baseline: dict[str, Tensor] | None = None
    latest: dict[str, Tensor] | None = None
    results: dict[int, dict[str, float]] = field(default_factory=dict)
    _measured: list[dict[str, Tensor]] = field(default_factory=list)

    def scorers(self) -> list[Any]:
        """The embedding and the metrics: what has a device."""
        return [*([self.embedding] if self.embedding is not None else []), *self.metrics.values()]

    def rows_of_rank(self, rank: int, ranks: int) -> list[list[int]]:
        """Batches of rows that a rank measures; row p * n + j is picture j of prompt p.

        Every rank makes as many batches of the same sizes: where the rows do not go round, some
        are measured twice, and :meth:`finish` takes them once.
        """
        total = len(self.prompts) * self.settings.samples_per_prompt
        share = -(-total // ranks)
        own = [(rank + ranks * place) % total for place in range(share)]
        return [own[part] for part in chunks(share, self.settings.batch_size)]

    @torch.no_grad()
    def measure(self, rows: Sequence[int], last: bool = True) -> None:
        """Sample and score some rows, of the base model as long as there is no baseline.

        Args:
            rows: of one batch.
            last: whether training has come to its end.
        """
        places = [divmod(row, self.settings.samples_per_prompt) for row in rows]
        process = self.problem.process
        of_base = self.baseline is None
        costs = {"every": True, "last": last or of_base, "never": False}
        with_cost = costs[self.settings.control_cost]
        samples = sample_trajectories(
            self.model,
            self._base if of_base else self._trained,
            process,
            self.prompts,
            places,
            seed=self.seed,
            stream="validation",
            keep_predictions=with_cost and not of_base,
        )
        measured = {"row": torch.tensor(rows)}
        if with_cost:
            measured["control_cost"] = self._cost(samples)
        prompts = samples.prompts
        images, rewards = self.problem.pictures_and_rewards(samples.latents, prompts)
        measured["reward"] = rewards.cpu()
        for name, scores in self.problem.parts.take(len(rows)).items():
            measured[f"metric {name}"] = scores.cpu()
        # As the reward: reduced precision would cost more than it saves.
        with torch.autocast(images.device.type, enabled=False):
            if self.embedding is not None:
                measured["embedding"] = self.embedding(images).cpu()
            for name, metric in self.metrics.items():
                measured[f"metric {name}"] = metric(images, prompts).float().cpu()
        on_sheet = [
            i
            for i, (prompt, j) in enumerate(places)
            if j == 0 and prompt < self.settings.sheet_prompts
        ]
        measured["picture_row"] = torch.tensor([places[i][0] for i in on_sheet], dtype=torch.int64)
        measured["picture"] = (images[on_sheet].cpu() * 255).round().to(torch.uint8)
        self._measured.append(measured)

    def finish(self) -> ValidationResult:
        """Combine what all ranks measured; the first result becomes the baseline.

        Raises:
            RunError: the reward cannot be standardised by it.
        """
        names = dict.fromkeys(name for part in self._measured for name in part)
        own = {name: torch.cat([part[name] for part in self._measured]) for name in names}
        self._measured.clear()
        everyone = gather_rows(own)
        pictures = everyone.pop("picture")[_once(everyone.pop("picture_row"))]
        order = _once(everyone.pop("row"))
        by_prompt = {
            name: values[order].unflatten(0, (len(self.prompts), -1))
            for name, values in everyone.items()
        }
        if self.baseline is None:
            self._standardise(by_prompt)
            _warn_of_broken(by_prompt["reward"], self.problem.reward.name)
            self.baseline = {**by_prompt, "pictures": pictures}
        self.latest = by_prompt
        return self._result(by_prompt, pictures)

    def scores(self) -> list[Scores]:
        """The base model, and the model as it was measured last with its paired differences.

        Metrics are named as ``python -m soc_ft.evaluate`` names them.
        """
        assert self.baseline is not None
        assert self.latest is not None
        process = self.problem.process
        block = {
            "schedule": OWN_SCHEDULE,
            "eta": process.eta,
            "num_steps": process.num_steps,
        }
        pictures = len(self.prompts) * self.settings.samples_per_prompt
        base, tuned = self._by_metric(self.baseline), self._by_metric(self.latest)
        return [
            compared(Scores(block, BASE, pictures), base),
            compared(Scores(block, FINE_TUNED, pictures), tuned, base),
        ]

    def _by_metric(self, by_prompt: dict[str, Tensor]) -> dict[str, NDArray[np.float64]]:
        """(P,) values of each metric."""
        found = {self.problem.reward.name: of_prompts(by_prompt["reward"])}
        for name, values in by_prompt.items():
            if name.startswith("metric "):
                found[name.removeprefix("metric ")] = of_prompts(values)
        if "embedding" in by_prompt and self.settings.samples_per_prompt > 1:
            found["diversity"] = of_prompts(by_prompt["embedding"], embeds=True)
        return found

    def draw_sheet(self, result: ValidationResult, step: int, logger: Any) -> None:
        """Base model and current model side by side with their scores, as a picture.

        The single pictures are kept beside it, for sheets that compare runs.
        """
        assert self.baseline is not None
        assert self.latest is not None
        path = self.folder / sheet_name(step)
        prompts = list(self.prompts[: len(result.pictures)])
        scores = [each["reward"][: len(prompts), 0] for each in (self.baseline, self.latest)]
        picture_grid(
            [list(pair) for pair in zip(self.baseline["pictures"], result.pictures, strict=True)],
            row_labels=prompts,
            column_labels=["base model", f"step {step}"],
            path=path,
            captions=[
                [f"{self.problem.reward.name} {score:.2f}" for score in pair.tolist()]
                for pair in torch.stack(scores, dim=1)
            ],
        )
        logger.log_picture(path, SAMPLE_FOLDER, step)
        save_pictures(self.baseline["pictures"], self.folder / BASE_PICTURES)
        save_pictures(result.pictures, self.folder / LATEST_PICTURES)
        replace_file(self.folder / SHEET_PROMPTS_FILE, json.dumps(prompts, indent=1).encode())

    def state_dict(self) -> dict[str, Any]:
        """The measurements of the base model and the latest ones, and all results so far."""
        return {"baseline": self.baseline, "latest": self.latest, "results": self.results}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.baseline = state["baseline"]
        if self.baseline is not None:
            self._standardise(self.baseline)
        self.latest = state["latest"]
        self.results = state["results"]

    def _standardise(self, of_base: dict[str, Tensor]) -> None:
        """Let a reward that awaits its parts' moments have those of the base model's pictures."""
        start = f"metric {PART}"
        parts = {n.removeprefix(start): each for n, each in of_base.items() if n.startswith(start)}
        of_base["reward"] = standardise(self.problem, of_base["reward"], parts)

    def _result(self, by_prompt: dict[str, Tensor], pictures: Tensor) -> ValidationResult:
        assert self.baseline is not None
        reward = by_prompt["reward"].double()
        base = self.baseline["reward"].double()
        gain = paired_difference(reward.numpy(), base.numpy())
        cost = objective = spread = None
        optimum: dict[str, Estimate] = {}
        if "control_cost" in by_prompt:
            costs, scale = by_prompt["control_cost"].double(), self.problem.reward_scale
            cost = mean_and_error(costs.numpy())
            objective = mean_and_error((scale * (reward - base) - costs).numpy())
            if self.base_rewards is not None and costs.any():  # the base model is no run
                optimum = beside_optimum(self.base_rewards, scale, gain, cost)
        if "embedding" in by_prompt and self.settings.samples_per_prompt > 1:
            spread = mean_and_error(of_prompts(by_prompt["embedding"], embeds=True))
        return ValidationResult(
            reward=mean_and_error(reward.numpy()),
            gain=gain,
            control_cost=cost,
            objective=objective,
            diversity=spread,
            others={
                name.removeprefix("metric "): mean_and_error(values.double().numpy())
                for name, values in by_prompt.items()
                if name.startswith("metric ")
            },
            optimum=optimum,
            pictures=pictures,
        )

    def _cost(self, samples: Samples) -> Tensor:
        """(B,) control costs on the CPU: none of the base model, whose predictions are its own."""
        if self.baseline is None:
            return torch.zeros(len(samples.prompts))
        process = self.problem.process
        return path_control_cost(self._base, process, samples.trajectory, samples.condition).cpu()

    def _base(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return self.model.base(x, t, condition, self.settings.guidance_scale)

    def _trained(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return self.model.trained(x, t, condition, self.settings.guidance_scale)


def _once(rows: Tensor) -> Tensor:
    """Where each of the ``rows`` (n,) stands first, in their order."""
    return torch.from_numpy(np.unique(rows.numpy(), return_index=True)[1])
