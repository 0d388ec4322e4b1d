"""Batches that fit in memory: what does not is decoded in halves, and later batches are cut before they are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rscap.batch import Batch
from rscap.errors import OutOfMemory
from rscap.generate.tokens import Decoded, decode
from rscap.model.captioner import Captioner
from rscap.model.memory import is_out_of_memory, release
from rscap.recipe import GenerateSection

Say = Callable[[str], None]


@dataclass(slots=True)
class Fitting:
    """Decodes batches, and remembers how many images fit at a time."""

    captioner: Captioner
    settings: GenerateSection
    eos: int
    say: Say
    limit: int | None = None

    def __call__(self, batch: Batch) -> Iterator[tuple[str, Decoded]]:
        """Every image of the batch once, in its order.

        Raises:
            OutOfMemory: a single image does not fit.
        """
        waiting = [batch]
        while waiting:
            part = waiting.pop(0)
            if self.limit is not None and part.images > self.limit:
                waiting[:0] = part.halves()
                continue
            decoded = self._attempt(part)
            if decoded is None:
                self._halve(part)
                waiting.insert(0, part)
                continue
            yield from zip(part.example_ids, decoded, strict=True)

    def _attempt(self, part: Batch) -> list[Decoded] | None:
        """None if memory runs out. Nothing of the attempt is alive when this returns: the error held it all."""
        try:
            return decode(self.captioner, part.to(self.captioner.device), settings=self.settings, eos=self.eos)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _halve(self, part: Batch) -> None:
        release(self.captioner.device)
        if part.images == 1:
            settings = self.settings
            raise OutOfMemory(
                f"{part.example_ids[0]}: a single image does not fit in memory with generate.beams = {settings.beams} "
                f"and generate.max_new_tokens = {settings.max_new_tokens}",
                hint="lower these two, or load the model in bfloat16 or quantised",
            )
        self.limit = (part.images + 1) // 2
        self.say(f"out of memory while decoding {part.images} images together; going on with {self.limit} at a time")
