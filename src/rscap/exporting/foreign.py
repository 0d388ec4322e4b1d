"""Export an adapter of another program: merged into its base model, or with names that most versions read."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import torch

from rscap.captioner import ModelRef
from rscap.data import open_source
from rscap.errors import StoreError
from rscap.escape import for_code_span, for_markdown
from rscap.exporting.agreement import Agreement, compare
from rscap.exporting.card import licence_id, licence_section, notice_of
from rscap.exporting.hub import HUB_NAME, generate_arguments, merged, public_name, refuse_secrets_in, write_checkpoint
from rscap.exporting.reading import Asking, load_export, read
from rscap.model.adapters import ForeignAdapter, least_transformers, make_portable
from rscap.progress import Say
from rscap.stopping import stopping
from rscap.store import new_folder, plain_path, read_json, write_json, write_text
from rscap.store.adapter import ADAPTER_CONFIG, ADAPTER_TENSORS


def export_foreign(
    ref: ModelRef, adapter: ForeignAdapter, target: Path, *, form: str, images: int, agree: float, say: Say
) -> Agreement:
    """Write the export and its card; nothing is left at `target` where captions differ.

    Args:
        ref: the adapter over its base model, unquantised, in the precision of the export.
        form: `merged` or `adapter`.
        images: of the built-in sample, on which both are compared.
        agree: the share of captions that must agree.

    Raises:
        AdapterError: it does not fit its base, or cannot be merged.
        ExportError: the captions of the export differ from those of the adapter beside its base.
    """
    asking = Asking(prefix=ref.prefix, max_new_tokens=ref.generate.max_new_tokens, batch_size=ref.generate.least_batch)
    with stopping(), new_folder(target) as folder:
        captioner = ref.load()
        base, dtype = captioner.base, captioner.base.compute_dtype
        examples = open_source("sample").subset("val", images, 0)
        say(f"captions of the adapter beside its base: {len(examples)} images of the built-in sample")
        readings = read(captioner, examples, asking)
        if form == "adapter":
            _copy(adapter, public_name(base.name), base.revision, folder)
        else:
            model = merged(captioner.packed.net, dtype)
            write_checkpoint(model, base.processor, folder, decoding=generate_arguments(ref.generate))
        family = base.family
        del captioner
        gc.collect()  # two models at once may not fit
        plain = load_export(form, ref.section, str(dtype).removeprefix("torch."), family, folder)
        origin = f"{len(examples)} images of the built-in sample"
        agreement = compare(readings, plain, asking, origin=origin, coarsest=dtype)
        agreement.require(agree)
        write_text(folder / "README.md", _card(adapter, ref, agreement, form, dtype, folder))
        if (notice := notice_of(ref.section.base)) is not None:
            write_text(folder / "NOTICE", notice)
        for file in (one for one in folder.rglob("*") if one.is_file()):
            file.chmod(0o644)
            refuse_secrets_in(file)
    return agreement


def _copy(adapter: ForeignAdapter, base: str, revision: str | None, folder: Path) -> None:
    try:
        for name in (ADAPTER_CONFIG, ADAPTER_TENSORS):
            shutil.copyfile(plain_path(adapter.folder, name), folder / name)
    except OSError as error:
        raise StoreError(f"{adapter.folder} cannot be copied: {error}") from error
    file = folder / ADAPTER_CONFIG
    write_json(file, {**read_json(file), "base_model_name_or_path": base, "revision": revision})
    make_portable(folder)


def _card(
    adapter: ForeignAdapter, ref: ModelRef, agreement: Agreement, form: str, dtype: torch.dtype, folder: Path
) -> str:
    """What is known, and what is not."""
    from huggingface_hub import ModelCardData

    base, name = public_name(ref.section.base), public_name(adapter.name)
    data = ModelCardData(
        license=licence_id(base),
        library_name="peft" if form == "adapter" else "transformers",
        pipeline_tag="image-to-text",
        base_model=base if HUB_NAME.fullmatch(base) else None,
        tags=["image-captioning", "rscap"],
    )
    what = "with key names that most versions of transformers read" if form == "adapter" else "merged into its weights"
    needs = least_transformers(folder) if form == "adapter" else None
    digest = adapter.describe()["digest"]
    lines = "\n".join(f"* {for_markdown(sentence)}" for sentence in agreement.sentences())
    return (
        f"---\n{data.to_yaml()}\n---\n\n# {for_markdown(Path(name).name)}\n\n"
        f"The adapter {for_code_span(name)} of another program (SHA-256 of its weights `{digest}`) over "
        f"{for_code_span(base)}, {what} ({str(dtype).removeprefix('torch.')}). rscap did not train it: what it was "
        "trained on and how good its captions are is not known here.\n"
        + (f"\nIt needs transformers {needs} or later and PEFT 0.21 or later.\n" if needs else "")
        + f"\n## Checked against the adapter\n\nBefore it was written, these files were asked for captions, greedily, "
        f"with the prompt {for_code_span(ref.prefix)}, beside the adapter on its base:\n\n{lines}\n\n"
        + licence_section(base)
    )
