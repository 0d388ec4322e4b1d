"""The YAML block that opens a card: what a hub files it under."""

from __future__ import annotations

from rscap.export.card.licence import licence_id
from rscap.export.card.subject import CardSubject


def front_matter(subject: CardSubject) -> str:
    """YAML between two lines of dashes. What is not known is left out rather than guessed."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        language=subject.language,
        license=licence_id(subject.base),
        library_name="peft" if subject.form == "adapter" else "transformers",
        pipeline_tag="image-to-text",
        base_model=subject.hub_base,
        datasets=subject.hub_data,
        tags=_tags(subject),
    )
    if subject.hub_base:
        data["base_model_relation"] = "adapter" if subject.form == "adapter" else "finetune"
    return f"---\n{data.to_yaml()}\n---\n"


def _tags(subject: CardSubject) -> list[str]:
    method = [subject.method.split(",")[0].lower()] if subject.method else []
    return ["remote-sensing", "image-captioning", "paligemma", "rscap", *method]
