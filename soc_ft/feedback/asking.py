"""Sampling pictures from the model as it is, and asking the true reward about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from soc_ft import core
from soc_ft.data.prompts import PromptOrder
from soc_ft.distributed import gather, gather_rows
from soc_ft.feedback.answers import Answers, AnswerStore
from soc_ft.feedback.base import Circumstances
from soc_ft.feedback.options import People
from soc_ft.feedback.people import write_pictures
from soc_ft.methods.problem import chunks


def prompts_of(
    circumstances: Circumstances, numbers: Sequence[int], people: People | None
) -> list[str]:
    """Prompts of pictures, which are numbered over all stages.

    Each takes its place in an endless order of prompts. Pictures that people compare come in pairs
    with the same prompt.
    """
    order = PromptOrder(len(circumstances.prompts), circumstances.seed)
    share = 2 if people is not None and people.kind == "pairs" else 1
    return [circumstances.prompts[order.index(number // share)] for number in numbers]


@torch.no_grad()
def ask(
    circumstances: Circumstances,
    store: AnswerStore,
    stage: int,
    prompts: Sequence[str],
    features: Callable[[Tensor, Sequence[str]], Tensor],
    noise: float,
    to_people: bool,
) -> Answers:
    """Ask about the pictures of a stage that have no answer yet; each answer is kept at once.

    Picture i of the stage takes all its randomness from the address (stage, i).

    Args:
        circumstances: of the run.
        store: where answers are kept, and looked for.
        stage: counted from 0.
        prompts: of the pictures.
        features: of pictures.
        noise: standard deviation of what is added to each answer.
        to_people: write the pictures for people, whose answers come later (NaN until then).

    Returns:
        Of all pictures, on every process, in their order.

    Raises:
        WriteError: an answer cannot be kept.
    """
    begun = store.begun(stage)
    gather(None)  # before any process adds to it
    answered = set(begun["index"].tolist()) if begun else set()
    missing = [index for index in range(len(prompts)) if index not in answered]
    own = missing[circumstances.rank :: circumstances.ranks]
    found = [begun] if begun and circumstances.rank == 0 else []
    parts = chunks(len(own), circumstances.rollout_batch)
    shown = f"Stage {stage + 1}, asking about {len(missing)} pictures"
    for rows in tqdm(parts, desc=shown, disable=circumstances.rank > 0 or not parts):
        indices = own[rows]
        places = [(stage, index) for index in indices]
        pictures, part = _answered(
            circumstances, places, [prompts[i] for i in indices], features, not to_people
        )
        error = core.normal((), circumstances.seed, "noise of answers", places)
        part["answer"] += noise * error
        if to_people:
            write_pictures(store.stage_folder(stage), indices, pictures)
        store.write_part(stage, part)
        found.append(part)
    merged = gather_rows(
        {name: torch.cat([part[name] for part in found]) for name in found[0]} if found else {}
    )
    order = merged["index"].argsort()
    return {name: tensor[order] for name, tensor in merged.items()}


def _answered(
    circumstances: Circumstances,
    places: Sequence[tuple[int, int]],
    prompts: Sequence[str],
    features: Callable[[Tensor, Sequence[str]], Tensor],
    asks: bool,
) -> tuple[Tensor, Answers]:
    """Pictures (b, 3, H, W) on the model's device, and what is kept of them, on the CPU."""
    problem, model = circumstances.problem, circumstances.model
    process = problem.process
    noise = core.normal(
        (process.num_steps + 1, *model.latent_shape),
        circumstances.seed,
        "pictures to ask about",
        places,
    ).to(model.device)
    counter = model.counter
    counted = counter.forward
    with problem.clock.phase("rollout"):
        clean = core.rollout(problem.trained, process, model.encode(prompts), noise).latents
    with problem.clock.phase("reward"):
        if asks:
            pictures, answers = problem.pictures_and_rewards(clean, prompts)
            problem.parts.take(len(prompts))
        else:
            pictures = model.decode(clean, problem.reward_batch)
            answers = torch.full((len(prompts),), torch.nan)
        seen = features(pictures, prompts).float()
    problem.take_queries()
    # They are logged with the answers, which a resumed run does not sample pictures for again.
    evaluations, counter.forward = counter.forward - counted, counted
    return pictures, {
        "index": torch.tensor([index for _, index in places]),
        "features": seen.cpu(),
        "answer": answers.float().cpu(),
        "evaluations": torch.full((len(prompts),), evaluations / len(prompts)),
    }
