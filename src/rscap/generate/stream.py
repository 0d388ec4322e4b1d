"""Examples to a stream of predictions."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial

from rscap.batch import Encoder, batches
from rscap.data import Rejected
from rscap.generate.ahead import ahead
from rscap.generate.decoded import Decoded
from rscap.generate.fitting import Fitting, Say
from rscap.model.captioner import Captioner
from rscap.prompt import Prompter
from rscap.recipe import GenerateSection
from rscap.records import Example, Prediction


def to_stderr(message: str) -> None:
    """A line on standard error."""
    print(message, file=sys.stderr)


def generate(
    captioner: Captioner,
    encoder: Encoder,
    examples: Sequence[Example],
    *,
    prefix: str,
    settings: GenerateSection,
    workers: int = 0,
    say: Say = to_stderr,
) -> Iterator[Prediction | Rejected]:
    """Caption examples in their order; an image that cannot be decoded is told as `Rejected` and never lost.

    Images of the next batch are decoded while this one is captioned. Where a batch does not fit in memory `say` is
    told, and it and all later ones are captioned in smaller parts.

    Raises:
        OutOfMemory: a single image does not fit.
    """
    was_training = captioner.training
    captioner.eval()
    prompter: Prompter = encoder.prompter
    encode = partial(encoder, prefix=prefix, captions=())
    fitting = Fitting(captioner, settings, prompter.eos, say)
    try:
        for batch in ahead(batches(examples, encode, size=settings.batch_size, pad=prompter.pad, workers=workers)):
            yield from batch.rejected
            if batch.images:
                for example_id, decoded in fitting(batch):
                    yield _prediction(example_id, decoded, prefix, prompter)
    finally:
        captioner.train(was_training)


def _prediction(example_id: str, decoded: Decoded, prefix: str, prompter: Prompter) -> Prediction:
    return Prediction(
        example_id=example_id,
        caption=prompter.caption(decoded.ids),
        prefix=prefix,
        tokens=len(decoded.ids),
        stopped="eos" if decoded.ids[-1] == prompter.eos else "length",
        near_ties=decoded.near_ties,
    )
