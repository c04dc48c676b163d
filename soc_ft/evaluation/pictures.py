"""Making the pictures of an evaluation, or finding them where an earlier one left them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from soc_ft.evaluation.folders import BASE, FINE_TUNED, PictureSet
from soc_ft.evaluation.measuring import tried_measure
from soc_ft.evaluation.plan import ModelSource, Plan, SamplingSetup
from soc_ft.evaluation.reward_guidance import Guide, guides_of
from soc_ft.evaluation.store import PictureStore, digest_of, fingerprint
from soc_ft.models.availability import GIVEN_PARTS, Source, locate, picture_size
from soc_ft.models.devices import release_memory
from soc_ft.models.loading import build_model
from soc_ft.models.pipelines import download
from soc_ft.models.weights import load_weights

if TYPE_CHECKING:
    from soc_ft.models.model import DiffusionModel

_log = logging.getLogger(__name__)


def picture_sets(plan: Plan, device: torch.device) -> list[PictureSet]:
    """Pictures of the base and the fine-tuned model in every block, made unless they are there.

    Raises:
        ConfigError: weights are missing or unfit, or a metric does not measure as it should.
    """
    assert plan.source is not None
    settings = plan.settings
    stores = _stores(plan, plan.source)
    missing = {
        key: store.missing(plan.prompts, plan.samples_of(key[1])) for key, store in stores.items()
    }
    to_make = sum(map(len, missing.values()))
    total = len(plan.prompts) * sum(plan.samples_of(of) for _, of in stores)
    if to_make < total:
        _log.info("%d of %d pictures were made before: %s", total - to_make, total, settings.store)
    if to_make:
        size = picture_size(plan.source.model["path"], plan.source.model.get("revision"))
        for label, measure in plan.measures.items():
            # Its mistakes are told before minutes of sampling.
            tried_measure(label, measure, device, size, plan.prompts, plan.metadata)
            release_memory()
        _make(plan, plan.source, stores, missing, device)
        release_memory()
    return [
        PictureSet(
            _description(plan.blocks[number]),
            of,
            plan.prompts,
            store.paths(plan.prompts, plan.samples_of(of)),
        )
        for (number, of), store in stores.items()
    ]


Key = tuple[int, str]
"""(index of the block, BASE, FINE_TUNED or a model of ``RewardGuidance``)."""


def _stores(plan: Plan, source: ModelSource) -> dict[Key, PictureStore]:
    """Where the pictures are kept, under everything that decides them."""
    model = source.model
    base = {
        "base": fingerprint(_locate(model), model.get("variant")),
        "frozen_dtype": model.get("frozen_dtype"),
    }
    for part in GIVEN_PARTS:
        if model.get(part):
            base[part] = digest_of([file for file in Path(model[part]).iterdir() if file.is_file()])
    trained: dict[str, Mapping[str, Any]] = {BASE: {}}
    if source.weights is not None:
        digest = digest_of([source.weights])
        trained[FINE_TUNED] = {"trained": digest, "finetune": source.finetune}
    if (guidance := plan.reward_guidance) is not None:
        learned = None if guidance.checkpoint is None else digest_of([guidance.checkpoint])
        by = {"reward": guidance.reward, "feedback": guidance.feedback, "learned": learned}
        for of, scale in guidance.models().items():
            trained[of] = {"reward_guidance": scale, **by}
    folder = Path(plan.settings.store)
    common = {"guidance_scale": source.guidance_scale, "seed": plan.settings.seed}
    return {
        (number, of): PictureStore(folder, {**common, **base, **weights, **_sampling(block)})
        for number, block in enumerate(plan.blocks)
        for of, weights in trained.items()
    }


def _locate(model: Mapping[str, Any]) -> Source:
    """Where the base model's files are, downloaded if they were not."""
    where = model["path"], model.get("revision"), model.get("variant")
    source = locate(*where)
    if source.kind == "hub":
        download(*where)
        source = locate(*where)
    return source


def _sampling(block: SamplingSetup) -> dict[str, Any]:
    """What of a block decides the pictures: not its name."""
    return {key: value for key, value in asdict(block).items() if key != "schedule"}


def _description(block: SamplingSetup) -> dict[str, Any]:
    return {"schedule": block.schedule, "eta": block.eta, "num_steps": block.num_steps}


def _make(
    plan: Plan,
    source: ModelSource,
    stores: Mapping[Key, PictureStore],
    missing: Mapping[Key, list[tuple[int, int]]],
    device: torch.device,
) -> None:
    from soc_ft.evaluation.sampling import sample_places
    from soc_ft.models.scheduler import adapt_scheduler

    model = _load(source).to(device)
    model.warn_of_truncated(plan.prompts)
    own = model.scheduler.config
    settings = plan.settings
    guides: dict[str, Guide] = {}
    if plan.reward_guidance is not None:
        guides = guides_of(plan.reward_guidance, model, settings.batch_size)
    began = time.monotonic()
    with tqdm(total=sum(map(len, missing.values())), desc="Sampling", unit="picture") as bar:
        for key, places in missing.items():
            block = plan.blocks[key[0]]
            scheduler = adapt_scheduler(own, **block.noise_levels)
            batches = sample_places(
                model,
                model.trained if key[1] == FINE_TUNED else model.base,
                scheduler.control_process(block.num_steps, block.eta),
                source.guidance_scale,
                plan.prompts,
                places,
                settings.seed,
                settings.batch_size,
                guides.get(key[1]),
            )
            for batch, pictures in batches:
                for place, picture in zip(batch, pictures, strict=True):
                    stores[key].save(place, plan.prompts[place[0]], picture)
                bar.update(len(batch))
    _log.info("%d network evaluations in %.0f s", model.counter.forward, time.monotonic() - began)


def _load(source: ModelSource) -> DiffusionModel:
    """The model with the checkpoint's own noise levels, and the trained weights in it."""
    weights = None if source.weights is None else load_weights(source.weights)
    model = build_model(source.model, source.finetune, {})
    if weights is not None:
        model.load_trainable_state(weights)
    return model
