"""What a picture of the embedded model's world shows, and the captions that describe it.

A picture is described exactly by a :class:`Scene`; a caption names its shape, colour and
background and may leave out size and position, which the reader then has to guess.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

Shape = Literal["circle", "square", "triangle", "star", "cross"]
Color = Literal["red", "orange", "yellow", "green", "cyan", "blue", "purple", "white"]
Size = Literal["small", "medium", "large"]
Position = Literal["center", "left", "right", "top", "bottom"]
Background = Literal["white", "black", "gray", "yellow", "green", "blue", "pink"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
RESOLUTION = 64
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "color": get_args(Color),
    "size": get_args(Size),
    "position": get_args(Position),
    "background": get_args(Background),
}
"""Every attribute with its values; the order of the values is the judge's class order."""

PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.10, 0.13),
    "orange": (0.97, 0.53, 0.08),
    "yellow": (0.98, 0.88, 0.14),
    "green": (0.12, 0.64, 0.24),
    "cyan": (0.18, 0.82, 0.88),
    "blue": (0.13, 0.25, 0.82),
    "purple": (0.50, 0.15, 0.68),
    "white": (0.97, 0.97, 0.97),
    "black": (0.05, 0.05, 0.05),
    "gray": (0.50, 0.50, 0.50),
    "pink": (0.97, 0.67, 0.79),
}
"""Linear position of every colour name in the RGB cube, in [0, 1]."""

RADIUS: dict[str, tuple[float, float]] = {
    "small": (11.0, 12.3),
    "medium": (14.2, 15.6),
    "large": (17.5, 19.0),
}
"""Range of the radius in pixels that a size word stands for."""

EXTENT = {"circle": 1.0, "square": 0.9, "triangle": 1.15, "star": 1.25, "cross": 1.1}
"""How far a shape reaches from its centre, in radii."""

_MARGIN = 1.5
_HELD_OUT_PERCENT = 20

_POSITION_PHRASE = {
    "center": "in the center",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
_TEMPLATES = (
    "{a} {subject}{place} on {b} {background} background",
    "a picture of {a} {subject}{place} on {b} {background} background",
    "{subject}{place}, {background} background",
    "on {b} {background} background, {a} {subject}{place}",
)
_INCOMPLETE = (
    "{a} {subject}{place}",
    "a picture of {a} {subject}",
    "something on {b} {background} background",
    "{a} {shape}{place}",
)


@dataclass(frozen=True)
class Speck:
    """A small second shape that nobody asked for.

    Attributes:
        shape: its kind.
        radius, x, y: in pixels, as of a :class:`Scene`.
        rgb: its colour, in [0, 1].
    """

    shape: Shape
    radius: float
    x: float
    y: float
    rgb: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """Ground truth of one picture.

    Attributes:
        shape, color, size, position, background: the words (see ``ATTRIBUTES``).
        radius: in pixels, within the range of ``size``.
        x, y: centre of the shape's bounding circle in pixels, origin top left.
        contrast: in (0, 1]; 1 paints the shape in its full colour, less mixes in the background.
        color_rgb, background_rgb: the painted colours, jittered around the palette, in [0, 1].
        specks: what clutters the background; the shape covers them.
    """

    shape: Shape
    color: Color
    size: Size
    position: Position
    background: Background
    radius: float
    x: float
    y: float
    contrast: float
    color_rgb: tuple[float, float, float]
    background_rgb: tuple[float, float, float]
    specks: tuple[Speck, ...] = ()


def combinations() -> list[tuple[Shape, Color, Background]]:
    """All combinations of shape, colour and background in which the shape is visible."""
    attributes = ATTRIBUTES["shape"], ATTRIBUTES["color"], ATTRIBUTES["background"]
    return [c for c in product(*attributes) if c[1] != c[2]]  # type: ignore[misc]


def is_held_out(combination: Sequence[str]) -> bool:
    """Whether a combination belongs to the validation prompts: a fixed fifth, chosen by a hash."""
    digest = hashlib.blake2b("/".join(combination).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % 100 < _HELD_OUT_PERCENT


def sample_scene(
    rng: np.random.Generator,
    wanted: Mapping[str, str] = MappingProxyType({}),
    *,
    contrast: tuple[float, float] = (0.85, 1.0),
    color_jitter: float = 0.03,
) -> Scene:
    """Draw a scene.

    Args:
        rng: what is not given is drawn from it.
        wanted: attributes that are kept (``{"shape": "star"}``); the others are uniform.
        contrast: range of the contrast between shape and background.
        color_jitter: half-width of the uniform jitter added to each colour channel.
    """
    words = {name: wanted.get(name) or str(rng.choice(v)) for name, v in ATTRIBUTES.items()}
    if words["color"] == words["background"]:
        free = "color" if "background" in wanted else "background"
        others = [v for v in ATTRIBUTES[free] if v != words["color"]]
        words[free] = str(rng.choice(others))
    radius = float(rng.uniform(*RADIUS[words["size"]]))
    x, y = _place(rng, words["position"], radius * EXTENT[words["shape"]])
    return Scene(
        **words,  # type: ignore[arg-type]
        radius=radius,
        x=x,
        y=y,
        contrast=float(rng.uniform(*contrast)),
        color_rgb=_jitter(rng, words["color"], color_jitter),
        background_rgb=_jitter(rng, words["background"], color_jitter),
    )


def caption(
    scene: Scene,
    rng: np.random.Generator,
    *,
    size_share: float = 0.6,
    position_share: float = 0.5,
    complete: bool = True,
) -> str:
    """Describe a scene in one of several phrasings.

    Args:
        scene: what is described.
        rng: decides the phrasing and what is mentioned.
        size_share: probability that the size is mentioned.
        position_share: probability that the position is.
        complete: name shape, colour and background; otherwise some of them are missing.
    """
    size = f"{scene.size} " if rng.random() < size_share else ""
    place = f" {_POSITION_PHRASE[scene.position]}" if rng.random() < position_share else ""
    subject = f"{size}{scene.color} {scene.shape}" if complete else f"{scene.color} {scene.shape}"
    templates = _TEMPLATES if complete else _INCOMPLETE
    template = templates[int(rng.integers(len(templates)))]
    named = subject if "{subject}" in template else scene.shape
    return template.format(
        a=_article(named),
        subject=subject,
        shape=scene.shape,
        place=place,
        b=_article(scene.background),
        background=scene.background,
    )


def fragment(scene: Scene, attribute: str) -> str:
    """The part of a caption that stands for one attribute, such as ``on the left``."""
    word: str = getattr(scene, attribute)
    if attribute == "position":
        return _POSITION_PHRASE[word]
    if attribute == "background":
        return f"on {_article(word)} {word} background"
    return word


def alternatives(words: Mapping[str, str], attribute: str) -> list[str]:
    """Other values of an attribute; colour and background never become equal."""
    colors = ("color", "background")
    taken = {words[name] for name in (colors if attribute in colors else (attribute,))}
    return [value for value in ATTRIBUTES[attribute] if value not in taken]


def altered(scene: Scene, attribute: str, rng: np.random.Generator) -> Scene:
    """The scene with another word for one attribute; for captions, as radius and place stay."""
    other = rng.choice(alternatives(words_of(scene), attribute))
    return replace(scene, **{attribute: str(other)})  # type: ignore[arg-type]


def words_of(scene: Scene) -> dict[str, str]:
    """The words that describe a scene, keyed by attribute."""
    return {name: getattr(scene, name) for name in ATTRIBUTES}


def labels(scene: Scene) -> list[int]:
    """Class indices of the attributes, in the order of ``ATTRIBUTES``."""
    return [values.index(getattr(scene, name)) for name, values in ATTRIBUTES.items()]


def mentioned_labels(scene: Scene, text: str) -> list[int]:
    """As :func:`labels`, with -1 for what ``text``, a caption of the scene, leaves out."""
    shape, color, size, position, background = labels(scene)
    size = size if f"{scene.size} " in text else -1
    position = position if _POSITION_PHRASE[scene.position] in text else -1
    return [shape, color, size, position, background]


def claimed_words(claims: Sequence[int]) -> dict[str, str]:
    """The words behind :func:`mentioned_labels`, keyed by attribute."""
    named = zip(ATTRIBUTES.items(), claims, strict=True)
    return {name: values[claim] for (name, values), claim in named if claim >= 0}


def training_prompts(count: int, seed: int) -> list[str]:
    """``count`` different prompts about combinations meant for fine-tuning."""
    return _prompts(count, seed, held_out=False)


def validation_prompts(count: int, seed: int) -> list[str]:
    """``count`` different prompts about combinations that no training prompt mentions."""
    return _prompts(count, seed, held_out=True)


def prompt_scenes(count: int, seed: int, *, held_out: bool | None = None) -> dict[str, Scene]:
    """Different prompts, each with a scene that satisfies it, combinations in random order.

    Args:
        count: how many prompts.
        seed: of the order, the scenes and the phrasings.
        held_out: validation combinations, training combinations, or (None) all of them.
    """
    rng = np.random.default_rng(seed)
    allowed = [c for c in combinations() if held_out is None or is_held_out(c) == held_out]
    found: dict[str, Scene] = {}
    while len(found) < count:
        for row in rng.permutation(len(allowed)):
            shape, color, background = allowed[row]
            words = {"shape": shape, "color": color, "background": background}
            scene = sample_scene(rng, words)
            found.setdefault(caption(scene, rng), scene)
    return dict(list(found.items())[:count])


def _prompts(count: int, seed: int, held_out: bool) -> list[str]:
    return list(prompt_scenes(count, seed, held_out=held_out))


def _article(phrase: str) -> str:
    return "an" if phrase[0] in "aeiou" else "a"


def _jitter(rng: np.random.Generator, color: str, amount: float) -> tuple[float, float, float]:
    jittered = np.clip(np.array(PALETTE[color]) + rng.uniform(-amount, amount, 3), 0.0, 1.0)
    return tuple(float(channel) for channel in jittered)  # type: ignore[return-value]


def _place(rng: np.random.Generator, position: str, extent: float) -> tuple[float, float]:
    middle = RESOLUTION / 2
    x, y = middle + rng.uniform(-1.5, 1.5, 2)
    near = extent + _MARGIN + rng.uniform(0.0, 2.0)
    if position in ("left", "right"):
        x = near if position == "left" else RESOLUTION - near
    elif position in ("top", "bottom"):
        y = near if position == "top" else RESOLUTION - near
    return float(x), float(y)
