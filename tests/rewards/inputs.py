"""What rewards are tested on; torch alone is imported, so that other environments can read it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AWKWARD_PROMPTS = (
    "",
    " ",
    "a red circle",
    "A PHOTO of a Cat, 4k!!! (masterpiece:1.2)",
    "naïve café in São Paulo, Ünïcödé",
    "一只猫坐在桌子上, 東京の夜",
    "👩‍🚀 on the moon 🌙",
    "Tom &amp; Jerry &lt;3 &#39;quoted&#39;",
    "schÃ¶n und grÃ¶ÃŸer",
    "ＦＵＬＬ ｗｉｄｔｈ ﬁne ligatures",
    "tabs\tand\nnew  lines\r\n ",
    "don't, won't: it's 3.14 of 20,000 things we've seen",
    "zero\u200bwidth and no\u00a0break\u3000spaces",
    "combined e\u0301 and o\u0308, ﷽ and ́alone",
    "[CLS] marks [SEP] that [ENC] a [DEC] tokenizer [PAD] knows [MASK]",
    "a very long prompt, " * 60,
    "x" * 400,
)
"""Empty, in other scripts, with marks, broken, over-long."""


def pictures(sizes: tuple[tuple[int, int], ...], seed: int = 0) -> list[Tensor]:
    """Pictures of coarse patches under a tint, with fine noise: (3, H, W) uint8, one for each size.

    The tint lets their scores differ, as those of pictures of different things do.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for height, width in sizes:
        cells = int(torch.randint(2, 6, (), generator=generator))
        tint = torch.rand(3, 1, 1, generator=generator)
        coarse = torch.rand(1, 3, cells, cells, generator=generator)
        noise = torch.rand(3, height, width, generator=generator)
        patches = F.interpolate(coarse, (height, width), mode="bilinear")[0]
        made.append((255 * (0.5 * tint + 0.45 * patches + 0.05 * noise)).round().byte())
    return made


def randomise(network: nn.Module, seed: int = 0) -> None:
    """Draw every weight anew, biases and norms too, so that none can be mistaken for another.

    Activations keep their scale from layer to layer; scalars stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
            elif weight.dim() == 1:
                weight.normal_(float(name.endswith("weight")), 0.1, generator=generator)


def vocabulary() -> str:
    """A ``vocab.txt`` of the size of bert-base-uncased's, its marks at their places.

    It holds characters of several scripts, some words and some pieces of words.
    """
    return "\n".join(_entries()) + "\n"


def _entries() -> Iterator[str]:
    size, first_word = 30522, 1000
    marks = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    for index in range(first_word):
        yield marks.get(index, f"[unused{index}]")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    others = [chr(code) for code in range(33, 0x3100) if not chr(code).isspace()]
    others = [character for character in others if character not in letters and character.islower()]
    signs = [chr(code) for code in (*range(33, 65), *range(91, 97), *range(123, 127))]
    words = ["red", "circle", "photo", "cat", "long", "very", "prompt", "marks", "that", "the"]
    pieces = [a + b for a in letters for b in letters]
    entries = [*letters, *signs, *others, "一", "猫", "東", "京", *words, *pieces]
    entries += [f"##{entry}" for entry in entries if entry.isalnum()]
    yield from entries
    for index in range(first_word + len(entries), size):
        yield f"[unused{index}]"
