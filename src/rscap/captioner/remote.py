"""A model behind a server that speaks OpenAI's API, asked for captions: vLLM, llama.cpp, Ollama, `rscap serve` …

The bytes of an image file are sent as they are, in a data URI. Nothing here imports torch.
"""

from __future__ import annotations

import base64
import io
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from rscap.errors import DataError, RecipeError, RscapError
from rscap.progress import Say, to_stderr
from rscap.recipe import GenerateSection, change_generate
from rscap.records import Example, ImageHandle, Picture, Prediction, Rejected

KEY_VARIABLE = "RSCAP_API_KEY"
"""The environment variable that holds the key of the server."""
PROMPT = "Describe this aerial image in one sentence."
"""The prompt for servers that do not name one."""

_ATTEMPTS = 6
_LONGEST_WAIT = 60.0
_KINDS = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff", "JPEG2000": "jp2"}
_EVERYWHERE = ("max_new_tokens", "temperature", "top_p", "seed", "batch_size", "logits")
"""Decode settings that are parameters of OpenAI's API, or that do not concern the server."""


class RemoteError(RscapError):
    """A server that cannot be reached, or does not answer as an OpenAI-compatible one does."""


@dataclass(frozen=True, slots=True)
class _Retry(Exception):
    """A failed answer; another attempt may succeed."""

    reason: str
    after: float | None = None


class RemoteCaptioner:
    """One served model, with its prompt and parameters.

    It has what an evaluation needs of a `Captioner`: `name`, `prefix`, `settings` and `predictions`.
    """

    def __init__(
        self,
        client: httpx.Client,
        name: str,
        *,
        own: Mapping[str, Any],
        prompt: str | None,
        settings: GenerateSection,
        concurrency: int = 8,
        per_minute: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self.name, self.own = client, name, own
        self.sent_prompt = (None if own else PROMPT) if prompt is None else prompt
        self.settings = settings
        self._concurrency, self._sleep = concurrency, sleep
        self._pace = _Pace(per_minute, sleep)

    @classmethod
    def connect(
        cls,
        url: str,
        model: str | None = None,
        *,
        prompt: str | None = None,
        changes: Sequence[str] = (),
        concurrency: int = 8,
        per_minute: float | None = None,
        timeout: float = 120.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> RemoteCaptioner:
        """Ask a server for its models and take one.

        Args:
            url: the server, with or without `/v1`.
            model: a model's name; may be left out where there is one.
            prompt: the words that are sent with the image. Left out, `rscap serve` uses those that its model was
                trained with, and other servers get `PROMPT`.
            changes: decode settings such as `generate.max_new_tokens=32`. Other servers than `rscap serve` take
                `max_new_tokens`, `temperature`, `top_p` and `seed`.
            concurrency: requests under way at a time.
            per_minute: requests that begin in a minute at most.
            timeout: seconds for one answer.

        Raises:
            RemoteError: no such server or model; names those there are.
            RecipeError: decode settings that the server has no word for.
        """
        client = httpx.Client(base_url=_api(url), headers=_headers(), timeout=timeout, transport=transport)
        try:
            listed = cls(client, "", own={}, prompt=prompt, settings=GenerateSection(), sleep=sleep)._models()
            name = _chosen(listed, model, url)
            own = listed.get(name, {}).get("rscap") or {}
            own = own if isinstance(own, dict) else {}
            settings = _settings(own, changes, url)
        except BaseException:
            client.close()
            raise
        return cls(
            client,
            name,
            own=own,
            prompt=prompt,
            settings=settings,
            concurrency=concurrency,
            per_minute=per_minute,
            sleep=sleep,
        )

    @property
    def url(self) -> str:
        """The server, without a name or password that an address may hold."""
        parts = urlsplit(str(self._client.base_url))
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"

    @property
    def prefix(self) -> str:
        """The words that stand before the caption."""
        return self.sent_prompt if self.sent_prompt is not None else str(self.own.get("prompt", ""))

    def describe(self) -> dict[str, Any]:
        """Everything that determines the captions: server, model, what the server says of it, prompt and parameters."""
        said = {key: self.own.get(key) for key in ("kind", "digest", "base")} if self.own else None
        return {
            "server": self.url,
            "model": self.name,
            "rscap": said,
            "prompt": self.prefix,
            "parameters": self.parameters(),
        }

    def parameters(self) -> dict[str, Any]:
        """The decode settings as they are sent."""
        settings = self.settings
        sent: dict[str, Any] = {"max_tokens": settings.max_new_tokens, "temperature": settings.temperature}
        if settings.temperature:
            sent |= {"top_p": settings.top_p, "seed": settings.seed}
        usual = GenerateSection().model_dump(mode="json")
        if self.own:
            served = {**usual, **(self.own.get("decode") or {})}
            more = settings.model_dump(mode="json", exclude=set(_EVERYWHERE))
            if changed := {key: value for key, value in more.items() if value != served[key]}:
                sent["rscap"] = changed
        return sent

    def predictions(
        self, pictures: Sequence[Example | Picture], *, workers: object = 0, say: Say = to_stderr
    ) -> Iterator[Prediction | Rejected]:
        """Caption pictures in their order, several at a time; a `Rejected` stands where an image cannot be used.

        A server that is busy, restarts or cannot be reached for a while is asked again, after as long as it says, or
        twice as long each time.

        Raises:
            RemoteError: the server refuses what is not a matter of the image, or keeps failing.
        """
        coming: deque[Future[Prediction | Rejected]] = deque()
        waiting = iter(pictures)
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="asking") as pool:
            try:
                for picture in waiting:
                    coming.append(pool.submit(self._asked, picture, say))
                    if len(coming) >= 2 * self._concurrency:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
            finally:
                for future in coming:
                    future.cancel()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> RemoteCaptioner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked(self, picture: Example | Picture, say: Say) -> Prediction | Rejected:
        try:
            content = _as_uri(picture.image)
        except DataError as error:
            return Rejected(row=picture.id, reason=error.in_one_line)
        parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": content}}]
        if self.sent_prompt is not None:
            parts.append({"type": "text", "text": self.sent_prompt})
        body = {"model": self.name, "messages": [{"role": "user", "content": parts}], **self.parameters()}
        answer = self._answer(lambda: self._client.post("chat/completions", json=body), say)
        if answer.status_code in (400, 413, 415, 422):
            return Rejected(row=picture.id, reason=f"the server refuses it: {_message(answer)}")
        return self._prediction(picture.id, _json(answer))

    def _prediction(self, example_id: str, found: Any) -> Prediction | Rejected:
        try:
            choice = found["choices"][0]
            text, reason = choice["message"]["content"], choice.get("finish_reason")
            tokens = int((found.get("usage") or {}).get("completion_tokens") or 0)
            extra = found.get("rscap") or {}
            ties = int(extra["choices"][0]["near_ties"]) if extra else 0
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
            raise RemoteError(f"{self.url} answers, but not with a chat completion") from None
        if not isinstance(text, str):
            return Rejected(row=example_id, reason=f"the server gave no text (finish_reason {reason!r})")
        return Prediction(
            example_id=example_id,
            caption=text.encode("utf-8", "replace").decode().strip(),  # JSON may spell half a letter; no file takes it
            prefix=self.prefix,
            tokens=tokens,
            stopped="length" if reason == "length" else "eos",
            near_ties=ties,
        )

    def _models(self) -> dict[str, Mapping[str, Any]]:
        answer = self._answer(lambda: self._client.get("models"), to_stderr, attempts=2)
        try:
            return {str(model["id"]): model for model in _json(answer)["data"]}
        except (KeyError, TypeError):
            raise RemoteError(
                f"{self.url} lists no models: {_message(answer)}",
                hint="is this the address of an OpenAI-compatible API?",
            ) from None

    def _answer(self, ask: Callable[[], httpx.Response], say: Say, *, attempts: int = _ATTEMPTS) -> httpx.Response:
        """A final answer; failures that may be temporary are retried."""
        for attempt in range(attempts):
            self._pace.wait()
            try:
                return self._final(ask)
            except _Retry as retry:
                if attempt + 1 == attempts:
                    raise RemoteError(
                        f"{self.url}: {retry.reason}, {attempts} times", hint="is it running, and is this its address?"
                    ) from None
                wait = retry.after if retry.after is not None else min(_LONGEST_WAIT, 0.5 * 2**attempt)
                if attempt:
                    say(f"{self.url}: {retry.reason}; asking again in {wait:.1f} s")
                self._sleep(wait * (1 + 0.2 * random.random()))
        raise AssertionError

    def _final(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            answer = ask()
        except httpx.TransportError as error:
            raise _Retry(f"cannot be reached ({type(error).__name__})") from None
        except httpx.DecodingError:
            raise _Retry("answers with what cannot be unpacked") from None
        status = answer.status_code
        if status in (408, 409, 429) or status >= 500:
            raise _Retry(f"status {status}", _after(answer))
        if status in (401, 403):
            raise RemoteError(f"{self.url} asks for a key: {_message(answer)}", hint=f"set {KEY_VARIABLE}")
        if status in (404, 405) or 300 <= status < 400:
            raise RemoteError(f"{self.url}: status {status}: {_message(answer)}", hint="is the address right?")
        return answer


class _Pace:
    """Lets requests begin no faster than so many a minute, whichever thread sends them."""

    def __init__(self, per_minute: float | None, sleep: Callable[[float], None]) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._sleep, self._next, self._lock = sleep, 0.0, threading.Lock()

    def wait(self) -> None:
        if not self._gap:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._next)
            self._next = begin + self._gap
        if begin > now:
            self._sleep(begin - now)


def _api(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an end, a port above 65535
        usable = False
    if not usable:
        raise RemoteError(f"{url!r} is no address of a server", hint="such as http://127.0.0.1:8000")
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith("/v1") else f"{path}/v1", query="", fragment="").geturl()


def _headers() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise RemoteError(f"the key in {KEY_VARIABLE} holds other than ASCII characters", hint="copy it once more")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _chosen(listed: Mapping[str, Any], model: str | None, url: str) -> str:
    if model is None and len(listed) == 1:
        return next(iter(listed))
    if model is None or (listed and model not in listed):
        what = "several models" if model is None else f"no model {model!r}"
        raise RemoteError(f"{url} serves {what}", hint=f"--served-model: {', '.join(list(listed)[:20])}")
    return model


def _settings(own: Mapping[str, Any], changes: Sequence[str], url: str) -> GenerateSection:
    """The decode settings of a model of `rscap serve`, or none, with changes that its server can be asked for."""
    try:
        decode = {key: value for key, value in (own.get("decode") or {}).items() if key in GenerateSection.model_fields}
        served = GenerateSection(**decode)
    except (ValueError, AttributeError):
        raise RemoteError(
            f"{url} lists decode settings that rscap does not know", hint="is it of this version?"
        ) from None
    settings, usual = change_generate(served, changes), GenerateSection()
    for key in GenerateSection.model_fields:
        if not own and key not in _EVERYWHERE and getattr(settings, key) != getattr(usual, key):
            raise RecipeError(
                f"generate.{key} cannot be asked of {url}: OpenAI's API has no word for it",
                hint="it takes max_new_tokens, temperature, top_p and seed",
            )
    return settings


def _as_uri(image: ImageHandle) -> str:
    """The bytes of the file as they are; an image that is no file is sent as PNG, which loses nothing."""
    header, content = image.header(), image.data()
    kind = _KINDS.get(header.format, "png")
    if content is None:
        stream = io.BytesIO()
        image.load().save(stream, "PNG")
        kind, content = "png", stream.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _after(answer: httpx.Response) -> float | None:
    try:
        return min(_LONGEST_WAIT, max(0.0, float(answer.headers.get("retry-after", ""))))
    except ValueError:
        return None


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except (ValueError, RecursionError):
        return None


def _message(answer: httpx.Response) -> str:
    found = _json(answer)
    error = found.get("error", found.get("detail")) if isinstance(found, dict) else None
    text = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(text or answer.text).split())[:200]
