"""Records that carry a prompt: conversations of LLaVA, GeoChat and ms-swift, and PaliGemma's prefixes.

    {"image": "1.jpg", "conversations": [{"from": "human", "value": "<image>…"}, {"from": "gpt", "value": "A plane."}]}
    {"images": ["1.jpg"], "messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "A plane."}]}

The prompt is a matter of the recipe, not of the data: it is not kept, and a note says so where there is one. Of
conversations, only those of one question and one answer of two words or more about one image are captions; the others
are left out and counted in a note.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rscap.annotations.files import JsonObject, Located
from rscap.records import Note, Rejected

_TURNS = ("conversations", "messages")
_ASKED = frozenset({"human", "user"})
_ANSWERED = frozenset({"gpt", "assistant", "model"})
_PLACEHOLDER = re.compile(r"<image(?:_?\d+)?>|<img>.*?</img>", re.DOTALL)
_TASK = re.compile(r"\[(refer|grounding|identify|vqa|cls|detection|od)\]", re.IGNORECASE)
"""Tags by which GeoChat and its kin mark what is not captioning."""
_FEWEST_WORDS = 2


class _NoCaptionError(Exception):
    """Why a conversation is no caption."""


def is_conversation(record: Mapping[str, Any]) -> bool:
    """Does the record hold turns of a conversation?"""
    return any(isinstance(record.get(key), list) for key in _TURNS)


def without_prompts(name: str, records: Iterable[Located | Rejected | Note]) -> Iterator[Located | Rejected | Note]:
    """Records with conversations turned into `{"image", "caption"}`; notes tell what was not kept.

    Args:
        name: of the file, for the notes.
        records: with their places; those already rejected pass through.
    """
    prompts: dict[str, None] = {}
    left_out: Counter[str] = Counter()
    first = ""
    total = 0
    for item in records:
        if isinstance(item, Rejected | Note):
            yield item
            continue
        where, record = item
        total += 1
        if not is_conversation(record):
            prompts.setdefault(str(record.get("prefix") or ""))
            yield item
            continue
        try:
            prompt, plain = _plain(record)
        except _NoCaptionError as reason:
            first = first or where
            left_out[str(reason)] += 1
            continue
        prompts.setdefault(prompt)
        yield where, plain
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        share = f"{left_out.total()} of {total} conversations are no captions and are left out"
        yield Note(name, f"{share}, first {first}: {reasons}")
    told = [prompt for prompt in prompts if prompt]
    if told:
        yield Note(name, f"prefixes are not kept, the recipe's prompt is used: {told[:5]!r:.200}")


def _plain(record: JsonObject) -> tuple[str, JsonObject]:
    """The prompt, and the record as image and caption."""
    images = next((record[key] for key in ("image", "images", "img") if key in record), None)
    images = images if isinstance(images, list) else [images] if images is not None else _images_in_turns(record)
    if len(images) != 1:
        raise _NoCaptionError("without an image" if not images else "with several images")
    turns = [_turn(turn) for turn in next(record[key] for key in _TURNS if isinstance(record.get(key), list))]
    turns = [(role, text) for role, text in turns if role != "system"]
    roles = [role for role, _ in turns]
    if len(turns) != 2 or roles[0] not in _ASKED or roles[1] not in _ANSWERED:
        raise _NoCaptionError("of several turns" if len(turns) > 2 else "without question and answer")
    prompt, answer = _PLACEHOLDER.sub("", turns[0][1]).strip(), turns[1][1].strip()
    if _TASK.search(prompt):
        raise _NoCaptionError("of another task, by their tag")
    if len(answer.split()) < _FEWEST_WORDS:
        raise _NoCaptionError(f"with an answer of fewer than {_FEWEST_WORDS} words")
    kept: JsonObject = {key: record[key] for key in ("split", "source", "scene_class") if key in record}
    image = images[0].get("path") if isinstance(images[0], dict) else images[0]
    return prompt, {"image": image, "caption": answer, **kept}


def _images_in_turns(record: Mapping[str, Any]) -> list[object]:
    """Images among the parts of a turn, as Qwen and OpenAI write them: `{"type": "image", "image": "1.jpg"}`."""
    found: list[object] = []
    for turn in next(record[key] for key in _TURNS if isinstance(record.get(key), list)):
        parts = turn.get("content", turn.get("value")) if isinstance(turn, dict) else None
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, dict) and (image := part.get("image") or part.get("image_url")):
                found.append(image.get("url") if isinstance(image, dict) else image)
    return found


def _turn(turn: object) -> tuple[str, str]:
    """Role and text of one turn; texts that are a list of parts are joined."""
    if not isinstance(turn, dict):
        return "", ""
    role, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if isinstance(text, list):
        text = " ".join(str(part.get("text") or "") for part in text if isinstance(part, dict))
    return str(role).lower(), text if isinstance(text, str) else ""
