"""Images with their references and captions, words marked by whether a reference has them; and embedded pictures."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rscap.errors import ImageError
from rscap.opening import read_plain
from rscap.records import Example
from rscap.reports.html import Html, element, join
from rscap.reports.load import LoadedRun
from rscap.store import PanelImage, Reference

if TYPE_CHECKING:
    from PIL.Image import Image

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
EXAMPLE_PX = 192
_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}


def figure(runs: Sequence[LoadedRun]) -> Html | None:
    """One card for each panel image of any run; None if no run kept a panel."""
    images: dict[str, tuple[PanelImage, LoadedRun]] = {}
    for run in runs:
        for image in run.panel:
            images.setdefault(image.example_id, (image, run))
    if not images:
        return None
    cards = [_card(image, owner, runs) for image, owner in images.values()]
    return element("div", *cards, class_="cards")


def _card(image: PanelImage, owner: LoadedRun, runs: Sequence[LoadedRun]) -> Html:
    reference = owner.references.get(image.example_id)
    origin = " · ".join(part for part in (reference.source, reference.scene_class) if part) if reference else ""
    said = [_said(run, number, image.example_id, reference) for number, run in enumerate(runs)]
    return element(
        "article",
        _picture(image),
        element(
            "div",
            element("p", element("b", image.example_id), Html(" ") if origin else None, origin or None, class_="id"),
            *said,
            _references(reference),
            class_="words",
        ),
        class_="card",
    )


def _picture(image: PanelImage) -> Html:
    address = data_address(image.path)
    if address is None:
        return element("div", "image missing", class_="missing")
    return element("img", src=address, alt=f"image {image.example_id}", loading="lazy", width="224", height="224")


def data_address(path: Path) -> str | None:
    """The file as a `data:` address; None if it is missing or not a JPEG, PNG or WebP."""
    try:
        content = read_plain(path)
    except OSError:
        return None
    kind = next((name for start, name in _TYPES.items() if content.startswith(start)), None)
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}" if kind else None


def jpeg_address(content: bytes) -> str:
    """A JPEG as a `data:` address."""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"


def thumbnail(image: Image, side: int, *, quality: int) -> bytes:
    """A JPEG of an RGB image, shrunk until its longer side has `side` pixels."""
    from PIL.Image import Resampling

    small, stream = image.copy(), io.BytesIO()
    small.thumbnail((side, side), Resampling.LANCZOS)
    small.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def example_picture(example: Example) -> Html:
    """The picture of an example, shrunk and embedded; a grey box if it cannot be decoded."""
    try:
        picture = example.image.load()
    except ImageError:
        return element("div", "no image", class_="missing")
    address = jpeg_address(thumbnail(picture, EXAMPLE_PX, quality=82))
    return element("img", src=address, alt=f"image {example.id}", loading="lazy")


def _said(run: LoadedRun, number: int, example_id: str, reference: Reference | None) -> Html | None:
    prediction = run.scored.predictions.get(example_id)
    if prediction is None:
        return None
    items = run.scored.sheet.items.get(example_id, {}) if run.scored.sheet else {}
    score = element("span", f"CIDEr {items['CIDEr']:.2f}", class_="score") if "CIDEr" in items else None
    cut = element("span", "cut at the length limit", class_="flag") if prediction.stopped == "length" else None
    caption = marked(prediction.caption, reference.captions) if reference else join(prediction.caption)
    return element(
        "div",
        element("p", element("span", "", class_=f"swatch c{number % 8}"), run.label, score, cut, class_="who"),
        element("p", caption if prediction.caption.strip() else element("i", "empty caption"), class_="caption"),
        _wrong(run, example_id),
        class_="said",
    )


def _wrong(run: LoadedRun, example_id: str) -> Html | None:
    """The claims of this caption that no reference bears out; None where there are none, or none were looked for."""
    content = run.scored.sheet.extra.get("content") if run.scored.sheet else None
    wrong = content.get("wrong", {}).get(example_id) if isinstance(content, dict) else None
    if not isinstance(wrong, dict):
        return None
    listed = "; ".join(f"{kind}: {', '.join(texts)}" for kind, texts in wrong.items())
    return element("p", f"in no reference: {listed}", class_="who")


def marked(caption: str, references: Sequence[str]) -> Html:
    """The caption with each word in `<span class="hit">` where some reference has it, else in `"miss"`.

    Case is ignored. Counts are clipped as in BLEU-1: a word used more often than in any one reference is a miss.
    """
    left: Counter[str] = Counter()
    for reference in references:
        left |= Counter(word.lower() for word in _WORD.findall(reference))
    parts: list[Html | str] = []
    end = 0
    for match in _WORD.finditer(caption):
        word = match.group().lower()
        kind = "hit" if left[word] > 0 else "miss"
        left[word] -= 1
        parts += [caption[end : match.start()], element("span", match.group(), class_=kind)]
        end = match.end()
    return join(*parts, _tied(caption[end:]))


def _tied(caption: str) -> str:
    """Published captions end in ` .`: keep the full stop on the line of its word."""
    return caption.replace(" .", "\N{NO-BREAK SPACE}.")


def _references(reference: Reference | None) -> Html | None:
    if reference is None:
        return element("p", "no references kept", class_="note")
    lines = [
        element(
            "li",
            _tied(caption),
            element("span", f" × {count}", class_="quiet") if count > 1 else None,
        )
        for caption, count in Counter(reference.captions).items()
    ]
    return element(
        "details", element("summary", f"{len(reference.captions)} references"), element("ul", *lines), open=""
    )
