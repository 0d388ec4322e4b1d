"""Images are decoded while the model computes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from rscap.captioner.batch import Encoder, batches
from rscap.captioner.choice import Decoded
from rscap.captioner.decode import Fitting, Say
from rscap.captioner.prompt import Prompter
from rscap.model.packed import PackedModel
from rscap.recipe import GenerateSection
from rscap.records import Example, Prediction, Rejected

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items in the same order; a thread makes the next while the caller works with the last.

    An error in making an item is raised where the item would have come.
    """
    end = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]  # not `end`


# Examples to a stream of predictions.


def to_stderr(message: str) -> None:
    """A line on standard error."""
    print(message, file=sys.stderr)


def generate(
    packed: PackedModel,
    encoder: Encoder,
    examples: Sequence[Example],
    *,
    prefix: str,
    settings: GenerateSection,
    workers: int = 0,
    say: Say = to_stderr,
) -> Iterator[Prediction | Rejected]:
    """Caption examples in their order; an image that cannot be decoded is told as `Rejected` and never lost.

    Where a GPU captions, images of the next batch are decoded meanwhile. Where a batch does not fit in memory `say` is
    told, and it and all later ones are captioned in smaller parts.

    Raises:
        OutOfMemory: a single image does not fit.
    """
    was_training = packed.training
    packed.eval()
    prompter: Prompter = encoder.prompter
    encode = partial(encoder, prefix=prefix, captions=())
    fitting = Fitting(packed, settings, prompter.eos, say)
    try:
        coming = batches(examples, encode, size=settings.batch_size, pad=prompter.pad, workers=workers)
        if packed.device.type != "cpu":  # a processor has no time to spare: two pools of threads would wait in turns
            coming = ahead(coming)
        for batch in coming:
            yield from batch.rejected
            if batch.images:
                for example_id, decoded in fitting(batch):
                    yield _prediction(example_id, decoded, prefix, prompter)
    finally:
        packed.train(was_training)


def _prediction(example_id: str, decoded: Decoded, prefix: str, prompter: Prompter) -> Prediction:
    return Prediction(
        example_id=example_id,
        caption=prompter.caption(decoded.ids),
        prefix=prefix,
        tokens=len(decoded.ids),
        stopped="eos" if decoded.ids[-1] == prompter.eos else "length",
        near_ties=decoded.near_ties,
    )
