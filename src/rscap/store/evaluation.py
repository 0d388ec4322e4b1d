"""What an evaluation leaves in a run folder: captions and references, a line an image."""

from __future__ import annotations

from typing import Any

from rscap.records import Example, Prediction


def prediction_row(prediction: Prediction) -> dict[str, Any]:
    """The JSON object of one prediction: id, caption, prefix, tokens, stopped, and near_ties where there are any."""
    row = {
        "id": prediction.example_id,
        "caption": prediction.caption,
        "prefix": prediction.prefix,
        "tokens": prediction.tokens,
        "stopped": prediction.stopped,
    }
    return {**row, "near_ties": prediction.near_ties} if prediction.near_ties else row


def reference_row(example: Example) -> dict[str, Any]:
    """The JSON object of one example's references: id, captions, source, scene class."""
    return {
        "id": example.id,
        "captions": list(example.captions),
        "source": example.source,
        "scene_class": example.scene_class,
    }
