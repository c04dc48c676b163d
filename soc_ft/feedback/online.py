"""Few questions to a costly reward, in stages (Uehara et al. 2024, SEIKO, arXiv 2402.16359)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from soc_ft import core
from soc_ft.data.prompts import load_prompts
from soc_ft.feedback.base import Circumstances, Feedback
from soc_ft.feedback.options import Bonus, Fit, People
from soc_ft.options import Count, NonNegative

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from soc_ft.feedback.answers import Answers
    from soc_ft.feedback.optimism import SurrogateReward
    from soc_ft.methods.problem import Problem


class Online(Feedback):
    """Ask, fit a surrogate, fine-tune on it, and ask again about what that brought.

    Stage i samples ``questions[i]`` pictures from the model as it is, asks for one answer to each,
    fits a surrogate to all answers so far, and lets the method fine-tune on it, optimistically if
    that is asked for, for an equal share of the optimizer steps. The moments of the optimizer start
    anew with each stage, whose objective is another one, and so do anchors that are refreshed by
    ``stage``.
    """

    class Config(Feedback.Config):
        """Options of conf/feedback/*.yaml but ``direct``."""

        questions: list[Count] = Field(
            min_length=1, description="pictures that are asked about in each stage"
        )
        noise: NonNegative = Field(
            0.0, description="standard deviation of the noise that is added to each answer"
        )
        features: Any = Field(description="of pictures; what the surrogate is fitted on")
        surrogate: Fit
        optimism: Literal["none", "bonus", "heads"] = Field(
            description="what is maximised: the prediction, with the bonus, or the largest head's"
        )
        bonus: Bonus
        prompts: str | None = Field(
            None,
            description="source of the prompts to ask about; null: the training prompts",
        )
        people: People | None = Field(None, description="they answer instead of the reward")

        @model_validator(mode="after")
        def _consistent(self) -> Online.Config:
            heads = self.surrogate.heads
            if self.optimism == "heads" and heads < 2:
                raise ValueError(f"optimism=heads: needs surrogate.heads > 1, not {heads}")
            if self.optimism == "bonus" and heads > 1:
                raise ValueError(f"optimism=bonus: is of one network, but surrogate.heads={heads}")
            if len(self.surrogate.dropout) > len(self.surrogate.widths):
                raise ValueError("surrogate.dropout: has more numbers than surrogate.widths")
            if self.questions[0] < 4:
                raise ValueError(f"questions={self.questions}: ask about 4 pictures at least")
            in_pairs = self.people is not None and self.people.kind == "pairs"
            if in_pairs and any(number % 2 for number in self.questions):
                raise ValueError(f"questions={self.questions}: pairs need even numbers")
            return self

    config: Config
    differentiable = True

    def __init__(self, **options: Any) -> None:
        """Take the options; nothing was asked yet."""
        super().__init__(**options)
        self._data: dict[str, Tensor] = {}
        self._reward: SurrogateReward

    @property
    def stages(self) -> int:
        """As many as there are numbers of questions."""
        return len(self.config.questions)

    @property
    def prompt_sources(self) -> Sequence[str]:
        """Of the pictures to ask about, if they are not the training prompts."""
        return [] if self.config.prompts is None else [self.config.prompts]

    @property
    def features(self) -> Any:
        """As they were given."""
        return self.config.features

    def trained_on(self, problem: Problem) -> Problem:
        """The same problem with the surrogate as its reward."""
        from soc_ft.feedback.optimism import SurrogateReward
        from soc_ft.methods.problem import PartScores

        self._reward = SurrogateReward(self.features, self.config.optimism, self.config.bonus)
        return replace(problem, reward=self._reward, parts=PartScores(), queries=0)

    def begin_stage(self, stage: int, circumstances: Circumstances) -> Mapping[str, float]:
        """Ask, and fit the surrogate.

        Raises:
            AwaitingAnswers: people have not answered yet.
            WriteError: answers cannot be kept.
        """
        import torch

        from soc_ft.distributed import gather
        from soc_ft.feedback.surrogate import fit_surrogate

        new = self._asked(stage, circumstances)
        self.queries += len(new["answer"])
        known = self._data or {name: new[name][:0] for name in new}
        self._data = {name: torch.cat([known[name], new[name]]) for name in new}
        device = circumstances.model.device
        features, answers = (self._data[name].to(device) for name in ("features", "answer"))
        seed = core.seed_for(circumstances.seed, "surrogate", stage)
        with circumstances.problem.clock.phase("surrogate"), torch.enable_grad():
            fitted = fit_surrogate(features, answers, self.config.surrogate, seed)
        # The same on all processes, whatever their devices round to.
        fitted.surrogate.load_state_dict(
            gather({n: t.cpu() for n, t in fitted.surrogate.state_dict().items()})[0]
        )
        self._reward.use(fitted.surrogate, features)
        return {
            "stage": stage + 1,
            "answer": float(new["answer"].mean()),
            "evaluations_asking": float(new["evaluations"].sum()),
            "surrogate/held_out_error": fitted.held_out_error,
            "surrogate/held_out_correlation": fitted.held_out_correlation,
            "surrogate/held_out_std": fitted.label_std,
        }

    def count(self, scored: int) -> None:
        """Nothing: these pictures were scored by the surrogate."""

    def to(self, device: torch.device) -> None:
        """Move the features; the surrogate is moved as the reward that it is."""
        self.features.to(device)

    def state_dict(self) -> dict[str, Any]:
        """All answers with their features, and the surrogate."""
        return super().state_dict() | {"data": self._data} | self._reward.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with them."""
        super().load_state_dict(state)
        self._data = dict(state["data"])
        self._reward.load_state_dict(state, self.config.surrogate)

    def _asked(self, stage: int, circumstances: Circumstances) -> Answers:
        """The answers of a stage: those that are known, and the others."""
        from soc_ft.distributed import gather
        from soc_ft.feedback.answers import AnswerStore
        from soc_ft.feedback.asking import ask, prompts_of
        from soc_ft.feedback.people import answers_of_people

        questions, people = self.config.questions, self.config.people
        store = AnswerStore(circumstances.folder, circumstances.identity)
        known = store.finished(stage)
        if known:
            return known
        for source in self.prompt_sources:
            circumstances = replace(circumstances, prompts=load_prompts(source))
        numbers = range(sum(questions[:stage]), sum(questions[: stage + 1]))
        prompts = prompts_of(circumstances, numbers, people)
        found = ask(
            circumstances,
            store,
            stage,
            prompts,
            self.features,
            self.config.noise,
            to_people=people is not None,
        )
        if people is not None:
            folder = store.stage_folder(stage)
            found["answer"] = answers_of_people(folder, prompts, stage, people)
        gather(None)  # all have read what people said
        if circumstances.rank == 0:
            store.finish(stage, found)
        return found
