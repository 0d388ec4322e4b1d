"""model.json: what was measured of a model and its first batch where they were, for a doctor who has neither."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from rscap.doctor.evidence import FirstLosses, Learning, Sight, Weights
from rscap.doctor.reading import mapping
from rscap.recipe import Tower
from rscap.store import write_json

FILE = "model.json"


class Measured(BaseModel):
    """The content of model.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = ""
    tokens: Mapping[str, int] = {}
    """`vocabulary`, `image`, `bos`, `eos`, `pad`."""
    frozen: Mapping[Tower, Mapping[str, int]] | None = None
    products: tuple[str, ...] = ()
    trainable: Mapping[Tower, int] | None = None
    earlier: int | None = None
    """These four as in `Sight`."""
    future_seen: int | None = None
    before: int | None = None
    prefix_reach: int | None = None
    first_loss: float | None = None
    first_loss_spread: float = 0.0
    first_loss_tokens: int = 0

    @property
    def weights(self) -> Weights | None:
        return None if self.frozen is None else Weights(where=FILE, dtypes=self.frozen, products=tuple(self.products))

    @property
    def learning(self) -> Learning | None:
        return None if self.trainable is None else Learning(where=FILE, trainable=self.trainable)

    @property
    def first_losses(self) -> FirstLosses | None:
        if self.first_loss is None:
            return None
        return FirstLosses(
            where=FILE, mean=self.first_loss, spread=self.first_loss_spread, tokens=self.first_loss_tokens
        )

    def sight(self, read: Sight) -> Sight:
        """What was read of a batch, with what was measured with it."""
        if self.earlier is None and self.before is None:
            return read
        return Sight(
            where=FILE,
            token_types=read.token_types,
            earlier=self.earlier,
            future_seen=self.future_seen,
            before=self.before,
            prefix_reach=self.prefix_reach,
        )


def write_measured(folder: Path, measured: Measured) -> None:
    """Write model.json."""
    write_json(folder / FILE, measured.model_dump())


def read_measured(path: Path) -> Measured:
    """Read model.json.

    Raises:
        StoreError: not a JSON object.
        ValidationError: unknown or wrong keys.
    """
    return Measured.model_validate(mapping(path))
