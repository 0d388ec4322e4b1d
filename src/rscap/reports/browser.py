"""The image browser of a page: every evaluated image with its references, and what each system said of it.

A page holds all captions, scores and small pictures as JSON, and `browser.js` shows a part of them at a time.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from rscap.errors import RscapError, StoreError
from rscap.records import Prediction
from rscap.reports.html import Html, element, join
from rscap.reports.load import LoadedRun, Scored
from rscap.reports.table import ScoreTable, headline_metric
from rscap.scoring import degenerate
from rscap.store import Reference, read_thumbnails, small_jpeg, thumbnail_side

FUNCTION_WORDS = (
    "a an the and or but of in on at to with by for from as into is are was were be been being am can could may might "
    "will would has have had do does there here it its they them their this that these those which who we you i"
)
"""English words without content, which a reader does not want to see marked as errors: articles, conjunctions,
auxiliary verbs, pronouns and prepositions without a meaning of their own."""
CUT, NEAR_TIE, WRONG, MISSING = "cut at the limit", "near-tie", "content error", "no caption"
"""Flags of a caption, beside the kinds of `rscap.scoring.degenerate`."""
SystemKind = Literal["run", "untrained", "baseline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Whoever said something of the images: a run, a base model as it is, or a baseline."""

    name: str
    kind: SystemKind
    scored: Scored
    colour: int | None
    """Number of its colour on the page; None for a baseline."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Small JPEG pictures by image id, base64, and what to say of those that are missing."""

    kept: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Images with their references, and the systems that captioned them."""

    references: Mapping[str, Reference]
    systems: Sequence[System]
    pictures: Pictures = Pictures()
    """Those of these images: another set may use the same ids for others."""


def browser_of_runs(runs: Sequence[LoadedRun], tables: Sequence[ScoreTable]) -> dict[str, Any] | None:
    """The browser of a page of runs: the images of each table, and of runs without scores; None without captions."""
    sets = [_of_table(table, runs) for table in tables]
    unscored = [run for run in runs if run.scored.sheet is None and run.scored.predictions]
    sets += [
        ImageSet(references=run.references, systems=[_system(run)], pictures=pictures_of([run])) for run in unscored
    ]
    metric = next((name for table in tables if (name := headline_metric(table.rows))), "CIDEr")
    best = next((one.name for table in tables if table.comparison for one in table.comparison.systems), None)
    return browser_data(sets, metric=metric, subject=_subject(sets, best))


def _of_table(table: ScoreTable, runs: Sequence[LoadedRun]) -> ImageSet:
    by_scored = {id(run.scored): run for run in runs}
    owners = [run for scored in table.scored if (run := by_scored.get(id(scored)))]
    systems = [
        System(name=row.label, kind="baseline", scored=scored, colour=None)
        if (run := by_scored.get(id(scored))) is None
        else _system(run)
        for row, scored in zip(table.rows, table.scored, strict=True)
    ]
    references = next((run.references for run in owners if run.references), {})
    return ImageSet(references=references, systems=systems, pictures=pictures_of(owners))


def _system(run: LoadedRun) -> System:
    return System(name=run.label, kind="untrained" if run.untrained else "run", scored=run.scored, colour=run.colour)


def _subject(sets: Sequence[ImageSet], best: str | None) -> str:
    """The best trained run if it is known, else the first, else whatever there is."""
    names = [system.name for one in sets for system in one.systems if system.kind == "run"]
    everything = [system.name for one in sets for system in one.systems]
    return best if best in names else next(iter([*names, *everything]), "")


def browser_data(
    sets: Sequence[ImageSet], *, metric: str, subject: str = "", against: str = ""
) -> dict[str, Any] | None:
    """The content of the browser as JSON values; None if nothing was captioned.

    `captions`, `scores` and `flags` of an image are lists in the order of `systems`; `wrong` holds claims that no
    reference bears out, by the number of the system. An image has one entry for each list of references it has.
    """
    systems = [system for one in sets for system in one.systems]
    places = {id(system): place for place, system in enumerate(systems)}
    images: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}
    for one in sets:
        captioned = dict.fromkeys(name for system in one.systems for name in system.scored.predictions)
        for example_id in dict.fromkeys([*one.references, *captioned]):
            reference = one.references.get(example_id)
            key = (example_id, reference.captions if reference else ())
            image = images.setdefault(key, _image(example_id, reference, one.pictures.kept, len(systems)))
            for system in one.systems:
                _add(image, places[id(system)], system.scored, example_id, metric)
    if not systems or not images:
        return None
    return {
        "metric": metric,
        "systems": [{"name": one.name, "kind": one.kind, "colour": one.colour} for one in systems],
        "subject": subject,
        "against": against,
        "words": FUNCTION_WORDS.split(),
        "note": " ".join(dict.fromkeys(one.pictures.note for one in sets if one.pictures.note)),
        "images": list(images.values()),
    }


def _image(example_id: str, reference: Reference | None, kept: Mapping[str, str], count: int) -> dict[str, Any]:
    return {
        "id": example_id,
        "source": reference.source if reference else "",
        "class": (reference.scene_class or "") if reference else "",
        "references": list(reference.captions) if reference else [],
        "picture": kept.get(example_id, ""),
        "captions": [None] * count,
        "scores": [None] * count,
        "flags": [[] for _ in range(count)],
        "wrong": {},
    }


def _add(image: dict[str, Any], place: int, scored: Scored, example_id: str, metric: str) -> None:
    prediction = scored.predictions.get(example_id)
    items: Mapping[str, Mapping[str, float]] = scored.sheet.items if scored.sheet else {}
    score = items.get(example_id, {}).get(metric)
    wrong = _wrong(scored, example_id)
    image["captions"][place] = prediction.caption if prediction else None
    image["scores"][place] = None if score is None else round(score, 3)
    image["flags"][place] = [*_flags(prediction), *([WRONG] if wrong else [])]
    if wrong:
        image["wrong"][str(place)] = wrong


def _flags(prediction: Prediction | None) -> list[str]:
    if prediction is None:
        return [MISSING]
    cut = [CUT] if prediction.stopped == "length" else []
    ties = [NEAR_TIE] if prediction.near_ties else []
    return [*degenerate(prediction.caption, prediction.prefix or None), *cut, *ties]


def _wrong(scored: Scored, example_id: str) -> str:
    """The claims of a caption that no reference bears out; empty where there are none, or none were looked for."""
    content = scored.sheet.extra.get("content") if scored.sheet else None
    found = content.get("wrong") if isinstance(content, Mapping) else None
    wrong = found.get(example_id) if isinstance(found, Mapping) else None
    if not isinstance(wrong, Mapping):
        return ""
    return "; ".join(f"{kind}: {', '.join(map(str, texts))}" for kind, texts in wrong.items())


def pictures_of(runs: Iterable[LoadedRun]) -> Pictures:
    """The pictures that the evaluations of these runs keep, and those of their panels where they keep none.

    Evaluations of rscap 0.1 keep pictures of twelve images.
    """
    kept: dict[str, str] = {}
    damaged: list[str] = []
    older: list[str] = []
    for run in runs:
        path = run.folder.thumbnails(run.split)
        if run.scored.predictions.keys() <= kept.keys():
            continue
        try:
            found = read_thumbnails(path)
        except StoreError as error:
            found = panel_pictures(run)
            if path.exists():
                damaged.append(f"{run.label}: {error.message.replace(str(path), path.name)}")
            else:
                older.append(run.label)
        kept = {**found, **kept}
        if absent := len(run.scored.predictions.keys() - kept.keys()) if path.exists() else 0:
            damaged.append(f"{run.label} keeps none of {absent:,} images, which could not be decoded or were too many")
    if older:
        damaged.append(f"evaluated before rscap kept small pictures of all images: {', '.join(older)}")
    told = f"Some pictures are missing: {'; '.join(damaged)}." if damaged else ""
    return Pictures(kept, told)


def panel_pictures(run: LoadedRun) -> dict[str, str]:
    """The images of a run's panel, small."""
    from PIL import Image, UnidentifiedImageError

    found = {}
    for one in run.panel:
        with suppress(OSError, RscapError, UnidentifiedImageError, Image.DecompressionBombError):
            with Image.open(one.path) as image:
                small = small_jpeg(image.convert("RGB"), thumbnail_side(len(run.panel)), quality=82)
            found[one.example_id] = base64.b64encode(small).decode("ascii")
    return found


_ORDERS = (
    ("worst", "worst first"),
    ("best", "best first"),
    ("gained", "gained most"),
    ("lost", "lost most"),
    ("given", "as in the data"),
)


def browser_section() -> Html:
    """The controls of the browser and the places that `browser.js` fills."""
    orders = [element("option", text, value=value) for value, text in _ORDERS]
    return join(
        element("p", "The image browser needs JavaScript, which is off here.", class_="note", id="browser-off"),
        element(
            "form",
            _field("run", "caption of", element("select", id="browser-run")),
            _field("against", "compared with", element("select", id="browser-against")),
            _field("order", "order", element("select", *orders, id="browser-order")),
            _field(
                "words", "words", element("input", id="browser-words", type="search", placeholder="press / to search")
            ),
            _field("source", "source", element("select", id="browser-source")),
            _field("flag", "flag", element("select", id="browser-flag")),
            _field("low", "score from", element("input", id="browser-low", type="number", step="0.1")),
            _field("high", "to", element("input", id="browser-high", type="number", step="0.1")),
            element("fieldset", element("legend", "shown side by side"), id="browser-shown"),
            class_="browser",
            id="browser-form",
        ),
        element("p", "", id="browser-count", class_="count", aria_live="polite"),
        element("p", "", id="browser-note", class_="note"),
        element(
            "p",
            "A word is ",
            element("span", "green", class_="hit"),
            " where a reference has it and ",
            element("span", "red and underlined", class_="miss"),
            " where none has it, or has it as often; words such as “the” are not marked. Dotted: the compared caption "
            "does not use the word. Keys: ",
            *_keys(("j", "k"), " next and previous, "),
            *_keys(("Enter",), " enlarge, "),
            *_keys(("/",), " search, "),
            *_keys(("Esc",), " close."),
            class_="note legend-of-words",
        ),
        element("div", "", id="browser-list", class_="browser-list"),
        element("button", "", id="browser-more", class_="more", type="button"),
        element("dialog", "", id="browser-zoom", aria_label="one image, enlarged"),
    )


def _field(name: str, text: str, control: Html) -> Html:
    return element("label", element("span", text), control, class_=f"field for-{name}")


def _keys(keys: Sequence[str], text: str) -> list[Html | str]:
    return [*[element("kbd", key) for key in keys], text]
