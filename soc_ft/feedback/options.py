"""Options of the online protocol, declared without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from soc_ft.options import Count, Decay, NonNegative, Positive, Section


class Langevin(Section):
    """A draw of the posterior of the surrogate's weights."""

    steps: Count = Field(description="Langevin steps from the fitted weights")
    step: Positive = Field(description="their size")
    label_noise: Positive = Field(description="standard deviation that labels are taken to have")
    prior_std: Positive = Field(description="standard deviation of the prior of each weight")


class Fit(Section):
    """The surrogate and how it is fitted."""

    widths: list[Count] = Field(description="of the hidden layers")
    activation: Literal["silu", "none"] = Field(
        description="after each of them; none: a linear stack"
    )
    dropout: list[Decay] = Field(description="after the first hidden layers")
    heads: Count = Field(description="networks, each on its own resample of the data")
    epochs: Count = Field(description="passes over the data")
    batch_size: Count = Field(description="of its optimizer, AdamW")
    lr: Positive = Field(description="its learning rate")
    weight_decay: NonNegative = Field(description="its weight decay")
    held_out: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="share of the data that the best epoch is chosen by"
    )
    langevin: Langevin | None = Field(None, description="draw weights from their posterior")


class Bonus(Section):
    """What is added where little is known: scale sqrt(phi' M^-1 phi), phi the last activations."""

    matrix: Literal["gram", "covariance"] = Field(
        description="gram: sum phi phi' + ridge, shrinks with data; covariance: SEIKO's code"
    )
    scale: Positive = Field(description="in units of the reward")
    ridge: Positive = Field(description="added to the matrix's diagonal")
    cap: Positive = Field(description="largest bonus")


class People(Section):
    """How people answer: on a page that is written beside the pictures."""

    kind: Literal["scores", "pairs"] = Field(
        description="marks from 1 to 5, or the better of two pictures of a prompt"
    )
