"""The whole card, section by section."""

from __future__ import annotations

import tomli_w

from rscap.export.card.front import front_matter
from rscap.export.card.licence import licence_section
from rscap.export.card.scores import scores_section
from rscap.export.card.subject import CardSubject
from rscap.export.card.usage import usage_section
from rscap.export.private import public, refuse_secrets


def card(subject: CardSubject) -> str:
    """README.md of an export: Markdown behind YAML front matter.

    Raises:
        ExportError: the recipe or the run holds what looks like a secret.
    """
    sections = [
        f"# {subject.name}\n\n{_summary(subject)}\n",
        usage_section(subject),
        scores_section(subject),
        _agreement(subject),
        _training(subject),
        _limits(subject),
        licence_section(subject.base),
        _provenance(subject),
    ]
    text = front_matter(subject) + "\n" + "\n".join(sections)
    refuse_secrets(text, what="the model card")
    return text


def _summary(subject: CardSubject) -> str:
    base = f"`{subject.base}`" + (f" at revision `{subject.revision}`" if subject.revision else "")
    what = {
        "merged": f"{subject.method} adapter of {base}, merged into its weights ({subject.dtype})",
        "whole": f"weights of {base} with whole towers trained ({subject.dtype})",
        "adapter": f"{subject.method} adapter for {base}, in PEFT's format; the base model is not included",
    }[subject.form]
    learned = ", ".join(
        f"{tower.replace('_', ' ')} {counts['trainable']:,} of {counts['total']:,}"
        for tower, counts in subject.parameters.items()
        if counts["trainable"]
    )
    return f"Captions for images seen from above: the {what}.\nParameters that learned: {learned}."


def _agreement(subject: CardSubject) -> str:
    lines = "\n".join(f"* {sentence}" for sentence in subject.agreement.sentences())
    asked = "with PEFT on the unquantised base model" if subject.form == "adapter" else "with plain transformers"
    unquantised = " (its adapter on the unquantised base model)" if subject.quantised else ""
    return (
        f"## Checked against the run\n\nBefore it was written, these files were loaded {asked} and asked for captions, "
        f"greedily, beside the run{unquantised}:\n\n{lines}\n"
    )


def _training(subject: CardSubject) -> str:
    data = subject.data
    where = f"[{subject.hub_data}](https://huggingface.co/datasets/{subject.hub_data})" if subject.hub_data else None
    recipe = tomli_w.dumps(public(subject.recipe.model_dump(mode="json", exclude_none=True)))
    drawn = " (drawn by rscap itself: no photographs)" if data.get("name") == "sample" else ""
    return (
        f"## What it was trained on\n\nData: {where or data.get('name', 'unknown')}{drawn}, split scheme "
        f"`{data.get('split_scheme', 'unknown')}`; the test split was not given to training. Digest over ids, "
        f"captions, splits and image sizes of what training could see:\n`sha256:{data.get('digest', 'unknown')}`\n\n"
        f"The recipe, defaults included (paths are cut to their last part):\n\n```toml\n{recipe}```\n"
    )


def _limits(subject: CardSubject) -> str:
    resized = "Images are resized to a square of the base model's resolution: small things in large scenes vanish."
    measured = ", ".join(f"{scores.split} of {subject.data.get('name', 'its data')}" for scores in subject.scores)
    known = f"on {measured} alone" if measured else "on nothing"
    return (
        "## Intended use and limits\n\n"
        "Meant for research, for search and for first descriptions of images seen from above. It was measured "
        f"{known}; on other sensors, resolutions, regions or seasons its captions may be worse, and nothing here says "
        "by how much.\n\n"
        "* A caption can be fluent and wrong: counts, colours, places and kinds of things are to be checked by a "
        "person wherever a decision hangs on them.\n"
        "* Scores measure likeness to reference captions, faults of those included; they do not measure truth.\n"
        f"* {resized}\n"
        "* It gives a caption for any image, also for one that is not seen from above.\n"
    )


def _provenance(subject: CardSubject) -> str:
    known = subject.provenance
    commit = (
        f", commit `{known['commit']}`{' with local changes' if known.get('dirty') else ''}"
        if known.get("commit")
        else ""
    )
    packages = ", ".join(f"{name} {version}" for name, version in known.get("packages", {}).items())
    digest = subject.provenance.get("base", {}).get("digest")
    files = f"\n\nDigest of the base model's files: `sha256:{digest}`" if digest else ""
    return f"## Provenance\n\nTrained with rscap {known.get('rscap', 'unknown')}{commit}; {packages}.{files}\n"
