"""What OpenAI's clients send to `/v1/chat/completions`, and what they get.

Whatever a caption cannot be asked for is refused by the name of its parameter; a value that changes nothing is taken.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rscap.records import Answer
from rscap.serving.asked import DECODING, WORDS, Asked, asked, words_of
from rscap.serving.models import ServedModel, ServedModels
from rscap.serving.problems import Problem
from rscap.serving.settings import ServeSettings


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Part):
    """Words of the prompt."""

    type: Literal["text"]
    text: str


class ImageAddress(_Part):
    """`url` is a data URI, or where the server fetches images, an address."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Part):
    """The image."""

    type: Literal["image_url"]
    image_url: ImageAddress


class Message(_Part):
    """A message of the user; captioners hold no conversation."""

    role: Literal["user", "system", "developer", "assistant", "tool"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]
    name: str | None = None


class StreamOptions(_Part):
    """`include_usage` sends the numbers of tokens at the end of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_Share = Annotated[float, Field(allow_inf_nan=False)]
_Neutral: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "top_logprobs": (None, 0),
    "response_format": (None, {"type": "text"}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None, "none", "minimal"),
    "verbosity": (None,),
    "web_search_options": (None,),
}
"""Parameters of other models, with the values that change nothing."""
_HINTS = {
    "frequency_penalty": "; `rscap.repetition_penalty` lowers repetitions",
    "presence_penalty": "; `rscap.repetition_penalty` lowers repetitions",
}
_REMARKS = ("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier", "prompt_cache_key")
"""Remarks on a request: they change no caption, and nothing keeps them."""


class ChatRequest(BaseModel):
    """A request for captions of one image."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=16)]
    temperature: Annotated[_Share, Field(ge=0, le=2)] | None = None
    top_p: Annotated[_Share, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    logprobs: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    rscap: dict[str, Any] | None = None
    """Further decode settings by their names in a recipe, such as `{"beams": 3}`."""

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name, values in _Neutral.items():
            if name in given and given[name] not in values:
                raise ValueError(f"{name} cannot be set for captions{_HINTS.get(name, '')}")
        return {name: value for name, value in given.items() if name not in _Neutral and name not in _REMARKS}

    @property
    def stops(self) -> list[str]:
        """Texts at which a caption ends."""
        return [self.stop] if isinstance(self.stop, str) else [one for one in self.stop or () if one]

    def read(self, models: ServedModels, limits: ServeSettings) -> ChatAsked:
        """The request in the server's words.

        Raises:
            Problem: 404, no such model; 400, no image or several, a conversation, settings that cannot be used.
        """
        model = models[self.model]
        text, address, param = _content(self.messages)
        several = self.n or 1
        if several > limits.max_choices:
            raise Problem(400, f"n = {several}; at most {limits.max_choices} captions of an image", param="n")
        found = asked(model, text, self._changes(model), limits, param="messages")
        if several > 1 and not found.settings.temperature:
            raise Problem(400, "n above 1 needs a temperature above 0: each caption would be the same", param="n")
        return ChatAsked(request=self, asked=found, address=address, param=param)

    def _changes(self, model: ServedModel) -> dict[str, Any]:
        lengths = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(lengths) > 1:
            raise Problem(400, "max_tokens and max_completion_tokens differ", param="max_completion_tokens")
        for name, value in (self.rscap or {}).items():
            if name not in DECODING:
                raise Problem(
                    400, f"unknown parameter 'rscap.{name[:80]}'; there is {', '.join(DECODING)}", param="rscap"
                )
            if isinstance(value, bool) or (isinstance(value, str) and name not in WORDS):
                raise Problem(400, f"rscap.{name} is a number, found {str(value)[:40]!r}", param="rscap")
        changes = {**(self.rscap or {})}
        if self.temperature is not None:
            changes["temperature"] = self.temperature
        drawn = bool(changes.get("temperature", model.settings.temperature))
        if lengths and "max_new_tokens" in changes:
            raise Problem(400, "max_tokens and rscap.max_new_tokens are one setting; send one of them", param="rscap")
        if lengths:
            changes["max_new_tokens"] = lengths.pop()
        if self.top_p is not None and (drawn or self.top_p < 1):
            changes["top_p"] = self.top_p
        if self.seed is not None and drawn:  # nothing else is drawn: the same request always gives the same caption
            changes["seed"] = self.seed
        return changes


class ChatAsked:
    """A request for captions of one image that can be carried out."""

    def __init__(self, *, request: ChatRequest, asked: Asked, address: str, param: str) -> None:
        self.request, self.asked, self.address, self.param = request, asked, address, param
        self.created = int(time.time())

    @property
    def choices(self) -> int:
        return self.request.n or 1

    def completion(self, number: str, answers: list[Answer], prompt_tokens: int) -> dict[str, Any]:
        """The whole answer in one object."""
        made = [self._made(answer) for answer in answers]
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "finish_reason": reason,
                "logprobs": self._logprobs(answer),
            }
            for index, ((text, reason), answer) in enumerate(zip(made, answers, strict=True))
        ]
        usage = self._usage(answers, prompt_tokens)
        return {
            **self._head(number, "chat.completion"),
            "choices": choices,
            "usage": usage,
            "rscap": self._own(answers),
        }

    def chunks(self, number: str, answers: list[Answer], prompt_tokens: int) -> list[dict[str, Any]]:
        """The answer as the parts of a stream, behind `opening`."""
        head = self._head(number, "chat.completion.chunk")
        parts = []
        for index, answer in enumerate(answers):
            text, reason = self._made(answer)
            said = {"index": index, "delta": {"content": text}, "finish_reason": None}
            parts.append({**head, "choices": [{**said, "logprobs": self._logprobs(answer)}]})
            end = {"index": index, "delta": {}, "finish_reason": reason, "logprobs": None}
            parts.append({**head, "choices": [end]})
        parts[-1]["rscap"] = self._own(answers)
        if self.request.stream_options and self.request.stream_options.include_usage:
            parts = [{**part, "usage": None} for part in parts]
            parts.append({**head, "choices": [], "usage": self._usage(answers, prompt_tokens)})
        return parts

    def opening(self, number: str) -> dict[str, Any]:
        """The first part of a stream: the image is good, and its caption is being made."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        choices = [
            {"index": index, "delta": delta, "finish_reason": None, "logprobs": None} for index in range(self.choices)
        ]
        return {**self._head(number, "chat.completion.chunk"), "choices": choices}

    def _head(self, number: str, kind: str) -> dict[str, Any]:
        digest = self.asked.model.digest
        return {
            "id": f"chatcmpl-{number}",
            "object": kind,
            "created": self.created,
            "model": self.asked.model.name,
            "system_fingerprint": digest[:16] if digest else None,
        }

    def _made(self, answer: Answer) -> tuple[str, str]:
        """The text up to the first of the texts at which it ends, and why it ends."""
        text = answer.prediction.caption
        places = [place for stop in self.request.stops if (place := text.find(stop)) >= 0]
        if places:
            return text[: min(places)], "stop"
        return text, "stop" if answer.prediction.stopped == "eos" else "length"

    def _logprobs(self, answer: Answer) -> dict[str, Any] | None:
        if not self.request.logprobs or not answer.tokens:
            return None
        content = [
            {
                "token": token.text,
                "logprob": round(token.logprob, 6),
                "bytes": list(token.text.encode()),
                "top_logprobs": [],
            }
            for token in answer.tokens
        ]
        return {"content": content, "refusal": None}

    def _own(self, answers: list[Answer]) -> dict[str, Any]:
        captions = []
        for answer in answers:
            words = {"words": words_of(answer)} if self.request.logprobs else {}
            captions.append({**self.asked.of_caption(answer), **words})
        return {**self.asked.described(), "choices": captions}

    @staticmethod
    def _usage(answers: list[Answer], prompt_tokens: int) -> dict[str, int]:
        made = sum(answer.prediction.tokens for answer in answers)
        return {"prompt_tokens": prompt_tokens, "completion_tokens": made, "total_tokens": prompt_tokens + made}


def _content(messages: list[Message]) -> tuple[str, str, str]:
    """The words of the user, the image's address, and which parameter it is."""
    texts: list[str] = []
    images: list[tuple[str, str]] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message.role != "user":
            raise Problem(
                400,
                f"{where}: a message of role {message.role!r} cannot be used: a captioner takes an image and a prompt",
                param=f"{where}.role",
            )
        if isinstance(message.content, str):
            texts.append(message.content)
            continue
        for place, part in enumerate(message.content):
            if isinstance(part, TextPart):
                texts.append(part.text)
            else:
                images.append((part.image_url.url, f"{where}.content[{place}].image_url"))
    if len(images) != 1:
        raise Problem(400, f"a caption is of one image; this request holds {len(images)}", param="messages")
    return ("\n".join(text for text in texts if text.strip()), *images[0])
