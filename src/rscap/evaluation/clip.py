"""CLIP similarity: how well captions fit their images, without references.

The cosine between CLIP's embeddings of an image and of its caption (Radford et al., arXiv:2103.00020). CLIPScore
(Hessel et al., arXiv:2104.08718) is 2.5 times this, and 0 where it is negative. Any `CLIPModel` of transformers in
safetensors serves. A similarity is only comparable with others of the same weights, so the signature names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from rscap import __version__, provenance, scoring
from rscap.captioner.loading import best_device, present_device
from rscap.data import FileImage, open_data
from rscap.errors import DataError, ModelError
from rscap.evaluation.seen import overlap, seen_of
from rscap.hub import note_cached, reach_hub
from rscap.progress import Progress, to_stderr
from rscap.recipe import DataSection
from rscap.records import Example, ScoreSheet
from rscap.scoring.measures import Statistics
from rscap.scoring.protocol import data_digest
from rscap.scoring.resampling import DRAWS, intervals
from rscap.store import SEEN as SEEN_FILE
from rscap.store import Seen, read_seen

METRIC = "CLIP-similarity"
BATCH = 32
_UNKNOWN = "nothing here tells on which images this CLIP was trained; --trained-on names them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A CLIP ready to compare images with captions."""

    name: str
    version: str
    """The commit on the Hub, or the digest of a local folder: 12 hexadecimal digits."""
    model: Any
    tokenizer: Any
    images: Any
    """The image processor."""
    seen: Seen | None = None
    """The images it was trained on, where its folder holds a table of them."""

    @property
    def tokens(self) -> int:
        """How many tokens of a caption it reads, begin and end included."""
        return int(self.model.config.text_config.max_position_embeddings)

    @torch.inference_mode()
    def embedded(self, examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor, list[bool]]:
        """float[B, D] of images and float[B, D] of captions, of length 1; and whose caption was cut off.

        Raises:
            ImageError: an image cannot be decoded; names it.
        """
        device, captions = self.model.device, [example.captions[0] for example in examples]
        pictures = [example.image.load() for example in examples]
        words = self.tokenizer(captions, padding=True, truncation=True, max_length=self.tokens, return_tensors="pt").to(
            device
        )
        lengths = [len(ids) for ids in self.tokenizer(captions, truncation=False)["input_ids"]]
        pixels = self.images(images=pictures, return_tensors="pt")["pixel_values"].to(device)
        found = self.model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=pixels)
        return found.image_embeds.cpu(), found.text_embeds.cpu(), [length > self.tokens for length in lengths]


def load_clip(name: str | Path, *, revision: str | None = None, device: str | None = None) -> Clip:
    """Load a CLIP from a local folder, or from the Hub at a commit.

    Args:
        revision: the commit of a Hub repository, which a score needs; None for a folder, whose digest takes its place.
        device: `cuda`, `mps` or `cpu`; by default the best that this machine has.

    Raises:
        ModelError: no revision is named, the checkpoint is no CLIP, or it cannot be loaded; says why.
    """
    folder = Path(name)
    local = folder.is_dir()
    if local == (revision is not None):
        raise ModelError(
            f"{name} is a folder and has no revision" if local else f"no revision of {name} is named",
            hint="leave the revision out" if local else "a score is of certain weights: name the commit (40 digits)",
        )
    given: dict[str, Any] = {} if local else {"revision": revision}
    (disable_progress_bar if local else enable_progress_bar)()
    try:
        with reach_hub(not local):
            config, _ = CLIPConfig.get_config_dict(str(name), **given)
            if config.get("model_type") != "clip":
                raise ModelError(
                    f"{name} is a model of type {config.get('model_type')!r}, not a CLIP",
                    hint='its type must be "clip"',
                )
            model, loading = CLIPModel.from_pretrained(
                str(name), output_loading_info=True, use_safetensors=True, dtype=torch.float32, **given
            )
            tokenizer = AutoTokenizer.from_pretrained(str(name), **given)
            images = CLIPImageProcessorPil.from_pretrained(str(name), **given)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"CLIP {name} could not be loaded: {reason}", hint="it must be in safetensors") from error
    if absent := sorted(loading["missing_keys"]):
        raise ModelError(f"CLIP {name} is missing {len(absent)} weights, such as {absent[0]}")
    table = folder / SEEN_FILE
    commit = getattr(model.config, "_commit_hash", None) or revision
    if not local:
        note_cached(str(name), commit, to_stderr)
    return Clip(
        name=str(name) if not local else folder.name,
        version=(provenance.folder_digest(folder) if local else str(commit))[:12],
        model=model.eval().to(best_device() if device is None else present_device(device)),
        tokenizer=tokenizer,
        images=images,
        seen=read_seen(table) if local and table.is_file() else None,
    )


def clip_similarity(
    clip: Clip,
    captions: Mapping[str, str],
    images: Sequence[Example],
    *,
    trained_on: str | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress | None = None,
) -> ScoreSheet:
    """The similarity of each caption with its image, as a score sheet of one metric.

    Args:
        captions: `{id: caption}`.
        images: examples with these ids; their own captions are not looked at.
        trained_on: a data set whose training images, or all if it is not split, the CLIP was trained on.

    Returns:
        `items[id]["CLIP-similarity"]`, their mean with its interval; in `extra`: `shuffled`, the mean after every image
        got the caption of another, `cut`, the ids of captions longer than the CLIP reads, and what it has `seen`.

    Raises:
        DataError: an image has no caption, or a caption no image; names them.
        ImageError: an image cannot be decoded.
    """
    asked = _paired(captions, images)
    pictures, texts, cut = _embedded(clip, asked, progress)
    ids = tuple(example.id for example in asked)
    scores = (pictures * texts).sum(axis=1)
    mean = {METRIC: float(scores.mean())}
    bounds = intervals(Statistics(ids=ids, means={METRIC: scores}), draws=draws, seed=seed)
    source = f"{clip.name} {clip.version}".translate(str.maketrans("|@;,", "    "))[:80]
    declared = {"source": source, "low": -1.0, "high": 1.0, "higher_is_better": True, "per_image": True}
    sheet = ScoreSheet(
        signature=_signature(clip, len(cut), asked),
        n=len(ids),
        corpus=mean,
        intervals=bounds,
        items={name: {METRIC: value} for name, value in zip(ids, scores.tolist(), strict=True)},
        extra={
            "protocol": "clip",
            "tokenizer": source,
            "reference_duplicates": "none",
            "pool": "none",
            "data": _data(asked),
            "statistics": {},
            "foreign": {METRIC: declared},
            "shuffled": float((pictures * np.roll(texts, 1, axis=0)).sum(axis=1).mean()) if len(ids) > 1 else None,
            "cut": cut,
            "draws": draws,
            "seed": seed,
            "rscap": __version__,
        },
    )
    return scoring.with_seen(sheet, _seen(clip, trained_on, asked))


def _paired(captions: Mapping[str, str], images: Sequence[Example]) -> list[Example]:
    """The images with their captions, by id ascending."""
    known = {example.id: example for example in images}
    for what, ids in (("image", captions.keys() - known.keys()), ("caption", known.keys() - captions.keys())):
        if ids:
            raise DataError(
                f"{len(ids):,} ids have no {what}, such as {min(ids)!r}", hint="ids must be equal on both sides"
            )
    if not captions:
        raise DataError("there are no captions to compare with images")
    return [
        Example(id=name, captions=(captions[name],), image=known[name].image, split="test", source="")
        for name in sorted(captions)
    ]


def _embedded(
    clip: Clip, asked: Sequence[Example], progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """float64[n, D] of images and of captions, and the ids of captions that were cut off."""
    pictures, texts, cut = [], [], list[str]()
    for start, part in _parts(asked):
        of_images, of_captions, too_long = clip.embedded(part)
        pictures.append(of_images)
        texts.append(of_captions)
        cut += [example.id for example, long in zip(part, too_long, strict=True) if long]
        if progress:
            progress(start + len(part), len(asked))
    return torch.cat(pictures).double().numpy(), torch.cat(texts).double().numpy(), cut


def _parts(asked: Sequence[Example]) -> Iterator[tuple[int, Sequence[Example]]]:
    for start in range(0, len(asked), BATCH):
        yield start, asked[start : start + BATCH]


def _data(asked: Sequence[Example]) -> str:
    """Names the images, whatever their captions."""
    return data_digest({example.id: [example.image.identity] for example in asked})


def _signature(clip: Clip, cut: int, asked: Sequence[Example]) -> str:
    name = clip.name.replace("|", " ")
    pixels = clip.model.config.vision_config.image_size
    parts = [
        f"clip:{name}",
        f"rev:{clip.version}",
        f"px:{pixels}",
        f"tokens:{clip.tokens},cut:{cut}",
        f"n:{len(asked)}",
    ]
    return "|".join([*parts, f"data:{_data(asked)}", f"rscap:{__version__}"])


def _seen(clip: Clip, trained_on: str | None, asked: Sequence[Example]) -> dict[str, int | str]:
    """What the CLIP was trained on among these images; `unknown` where nothing tells."""
    if trained_on is not None:
        source = open_data(DataSection(source=trained_on), check="decode")
        examples = source.split("train") if source.splits.get("train") else source.examples
        table = seen_of(examples, source.contents)
    elif clip.seen is not None:
        table = clip.seen
    else:
        return {"of": len(asked), "unknown": _UNKNOWN}
    return overlap(table, asked, {}).fields()


def images_of(captions: Mapping[str, str], *, source: str | None = None, folder: Path | None = None) -> list[Example]:
    """The images of captions: those of a data set, files in a folder, or, with neither, files that the ids name.

    Raises:
        DataError: data and folder are both named, or an id names no image.
    """
    if source is not None and folder is not None:
        raise DataError("images come from a data set or from a folder, not from both", hint="name one of them")
    if source is None:
        handles = {name: FileImage(folder / name if folder else Path(name)) for name in captions}
        missing = [str(handle.path) for handle in handles.values() if not handle.path.is_file()]
        if missing:
            raise DataError(
                f"{len(missing):,} captions have no image, such as {missing[0]}",
                hint="name the data set with --source, or the folder that the ids start from with --images",
            )
        return [Example(id=name, captions=(), image=one, split="test", source="") for name, one in handles.items()]
    return [example for example in open_data(DataSection(source=source)).examples if example.id in captions]
