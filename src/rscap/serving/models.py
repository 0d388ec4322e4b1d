"""The models of a server by the name under which clients ask for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rscap.captioner import Captioner
from rscap.recipe import GenerateSection
from rscap.records import Answer
from rscap.serving.problems import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A captioner with what a client may know of it."""

    name: str
    kind: Literal["base", "run"]
    captioner: Captioner
    digest: str | None
    """Of the adapter's weights, or of the base model's files; None of a base from the Hub."""
    base: Mapping[str, Any]
    """The base model: name, revision, digest, dtype."""
    training_prompts: tuple[str, ...] = ()
    created: int = 0

    @property
    def prompt(self) -> str:
        """The words that stand before the caption where a client names none."""
        return self.captioner.prefix

    @property
    def settings(self) -> GenerateSection:
        """How the model decodes where a client says nothing."""
        return self.captioner.settings

    @property
    def dtype(self) -> str:
        return str(self.base["dtype"])

    def differs(self, prompt: str) -> bool:
        """Whether the model was trained with other words."""
        return prompt not in (self.prompt, *self.training_prompts)

    def flags(self, answer: Answer, asked: str) -> list[str]:
        """What a client should know of a caption."""
        found = {
            "prompt_differs": self.differs(asked),
            "near_tie": answer.prediction.near_ties > 0,
            "cut_off": answer.prediction.stopped == "length",
        }
        return [name for name, holds in found.items() if holds]

    def described(self) -> dict[str, Any]:
        """The model in OpenAI's list of models."""
        own = {
            "kind": self.kind,
            "digest": self.digest,
            "base": dict(self.base),
            "prompt": self.prompt,
            "decode": self.settings.model_dump(mode="json", exclude={"batch_size"}),
        }
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "rscap", "rscap": own}


class ServedModels:
    """All of them; the first is asked where a request of `/caption` names none."""

    def __init__(self, models: list[ServedModel]) -> None:
        self._by_name = {model.name: model for model in models}

    def __iter__(self) -> Any:
        return iter(self._by_name.values())

    @property
    def first(self) -> ServedModel:
        return next(iter(self._by_name.values()))

    def __getitem__(self, name: str) -> ServedModel:
        """The model of this name.

        Raises:
            Problem: 404, with the names that there are.
        """
        if name not in self._by_name:
            raise Problem(
                404,
                f"there is no model {name[:80]!r} here; there is {', '.join(self._by_name)}",
                param="model",
                code="model_not_found",
            )
        return self._by_name[name]

    def close(self) -> None:
        """Give the memory back."""
        for model in self._by_name.values():
            model.captioner.close()


def digest_of(files: Mapping[str, str]) -> str:
    """One SHA-256 for several files, from the digest of each by its name."""
    text = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()
