"""Lengths of a recipe's packed rows: counted if its captions are available locally, else assumed to be RISC's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from rscap.data import choose, open_data
from rscap.data.choice import training_examples
from rscap.model.load import locate
from rscap.planning.memory import MicroBatch
from rscap.planning.shapes import Shapes
from rscap.recipe import Recipe
from rscap.records import Example
from rscap.store import check_model_folder

TOKENS_PER_WORD = 1.1
"""Of the families' tokenizers on captions, whose common words are hardly ever split; an assumption."""

RISC = "caglarmert/full_riscm"
RISC_TRAIN = {"official": 35_614, "seed42": 37_843, "seed42-100-20": 100}
"""Training images of RISC's splits; seed42-test-* train on what seed42 does."""

_ONE, _FIVE = (12.09, 51), (60.5, 115)
_WORDS = {"all": _FIVE, "concat": _FIVE, "first": (14.4, 51), "longest": (17.2, 51)}
"""Words per RISC image under each caption scheme, the final full stop included: mean and maximum. One caption and five
are counted on all of RISC; `first` and `longest` on its validation split, whose five captions have 110 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnCaptions:
    """Captions that an [objective] draws of each image."""

    captions: int
    limit: int
    """Tokens at most, the end included."""
    steps: float
    """Tokens behind the first of the longest caption of an image, on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Lengths, in tokens, of the rows that a recipe trains on."""

    prefix: int
    """Image tokens, words, and what the family puts around them."""
    mean_tokens: float
    longest_tokens: int
    mean_supervised: float
    longest_supervised: int
    captions: float
    """Per row, on average."""
    images: int | None
    """Training images; None if the data are not available locally and not RISC."""
    origin: str
    """The source of these figures."""
    drawn: DrawnCaptions | None = None
    """With an [objective]; the rows then hold drawn captions, and references where the likelihood has a share."""

    def micro_batch(self, images: int) -> MicroBatch:
        """The largest micro batch: it holds the longest row, and pads the others to it."""
        others = (images - 1) * self.mean_supervised
        return MicroBatch(
            images=images,
            tokens=self.longest_tokens,
            queries=self.longest_supervised,
            supervised=self.longest_supervised + math.ceil(others),
        )


def lengths(recipe: Recipe, *, shapes: Shapes, at_most: int | None = None) -> Lengths:
    """Row lengths of a recipe, from its data if they are local, without opening an image or using the network.

    `at_most` limits the count to that many training images, chosen by a hash of their ids.

    Raises:
        DataError: the data are local and cannot be used.
    """
    tokenizer = _tokenizer(recipe.model.base)
    count = _words if tokenizer is None else tokenizer
    prefix = max(shapes.prefix_length(count, words) for words in _prefixes(recipe))
    unit = "1.1 tokens a word assumed" if tokenizer is None else "counted by the base's tokenizer"
    if recipe.data.source == "sample" or Path(recipe.data.source).exists():
        examples = _examples(recipe, at_most)
        rows = [_suffixes(example, recipe, count) for example in examples]
        origin = f"captions of {len(examples):,} training images of {recipe.data.source}, {unit}"
        found = _of_rows(rows, prefix=prefix, images=len(examples), origin=origin)
        if recipe.objective is None:
            return found
        every = [[count(caption) for caption in example.captions] for example in examples]
        mean = fmean(one for own in every for one in own)
        return _with_drawn(found, recipe, mean=mean, longest=fmean(max(own) for own in every))
    found = _of_risc(recipe, prefix=prefix)
    if recipe.objective is None:
        return found
    mean, longest = (TOKENS_PER_WORD * words for words in (_ONE[0], _WORDS["longest"][0]))
    return _with_drawn(found, recipe, mean=mean, longest=longest)


def _with_drawn(rows: Lengths, recipe: Recipe, *, mean: float, longest: float) -> Lengths:
    """Rows of drawn captions, as long as references: `mean` tokens without the end, `longest` of an image's."""
    objective = recipe.objective
    assert objective is not None
    count, limit = objective.samples, objective.max_new_tokens or recipe.generate.max_new_tokens
    mean, longest = min(mean, limit - 1), min(longest, limit - 1)
    beside = rows
    if not objective.likelihood_share:
        beside = replace(
            rows,
            mean_tokens=rows.prefix,
            longest_tokens=rows.prefix,
            mean_supervised=0.0,
            longest_supervised=0,
            captions=0.0,
        )
    return replace(
        beside,
        mean_tokens=beside.mean_tokens + count * mean,
        longest_tokens=beside.longest_tokens + count * (limit - 1),
        mean_supervised=beside.mean_supervised + count * (mean + 1),
        longest_supervised=beside.longest_supervised + count * limit,
        captions=beside.captions + count,
        drawn=DrawnCaptions(captions=count, limit=limit, steps=longest),
    )


def _prefixes(recipe: Recipe) -> Sequence[str]:
    return recipe.prompt.training_prefixes or (recipe.prompt.prefix,)


def _words(text: str) -> int:
    """Estimated tokens of a text without its tokenizer; a newline is one."""
    return math.ceil(TOKENS_PER_WORD * len(text.split())) + text.count("\n")


def _tokenizer(base: str) -> Callable[[str], int] | None:
    """Counts tokens with the base's own tokenizer; None unless the base is a folder that holds one."""
    folder = locate(base)
    if not isinstance(folder, Path) or not (folder / "tokenizer.json").is_file():
        return None
    from transformers import AutoTokenizer

    check_model_folder(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _examples(recipe: Recipe, at_most: int | None) -> Sequence[Example]:
    source = open_data(recipe.data, check="none")
    limit = recipe.data.train_limit
    if at_most is not None and at_most < (limit or source.splits.get("train", 0)):
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"train_limit": at_most})})
    return training_examples(source, recipe)


def _suffixes(example: Example, recipe: Recipe, count: Callable[[str], int]) -> list[list[int]]:
    """Tokens of each caption, without `<eos>`, of every row that an example can become."""
    scheme = recipe.data.captions
    if scheme in ("random", "cycle"):
        return [[count(caption)] for caption in example.captions]
    chosen = choose(example.captions, scheme, seed=recipe.seed, epoch=0, example_id=example.id)
    return [[count(caption) for caption in chosen]]


def _of_rows(rows: Sequence[list[list[int]]], *, prefix: int, images: int, origin: str) -> Lengths:
    every = [row for example in rows for row in example]
    read = [sum(row) for row in every]
    supervised = [sum(row) + len(row) for row in every]
    return Lengths(
        prefix=prefix,
        mean_tokens=prefix + fmean(read),
        longest_tokens=prefix + max(read),
        mean_supervised=fmean(supervised),
        longest_supervised=max(supervised),
        captions=fmean(len(row) for row in every),
        images=images,
        origin=origin,
    )


def _of_risc(recipe: Recipe, *, prefix: int) -> Lengths:
    """RISC's caption lengths, for data that are not available locally."""
    scheme, data = recipe.data.captions, recipe.data
    mean, most = _WORDS.get(scheme, _ONE)
    ends = 5 if scheme == "all" else 1
    images = None
    if data.source == RISC:
        images = RISC_TRAIN.get("seed42" if data.splits.startswith("seed42-test") else data.splits)
    if data.train_limit:
        images = min(data.train_limit, images or data.train_limit)
    if images is not None and data.reward_share is not None:
        held = (data.reward_images or ("rest" if recipe.objective is None else "held")) == "held"
        images = round(images * (data.reward_share if held else 1 - data.reward_share))
    return Lengths(
        prefix=prefix,
        mean_tokens=prefix + TOKENS_PER_WORD * mean,
        longest_tokens=prefix + math.ceil(TOKENS_PER_WORD * most),
        mean_supervised=TOKENS_PER_WORD * mean + ends,
        longest_supervised=math.ceil(TOKENS_PER_WORD * most) + ends,
        captions=ends,
        images=images,
        origin=f"assumed: {data.source} is not available locally; RISC's captions average {_ONE[0]} words of "
        f"{TOKENS_PER_WORD} tokens",
    )
