"""`rscap evaluate --server`: a model behind an OpenAI-compatible server, captioned with, scored and reported by us."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rscap import __version__, provenance
from rscap.captioner.asking import caption_all
from rscap.captioner.choice import decode_name
from rscap.captioner.remote import RemoteCaptioner
from rscap.data import Source, open_data
from rscap.errors import Interrupted, StoreError
from rscap.evaluation.outcome import Outcome, score_predictions, write_baselines, write_outcome
from rscap.evaluation.request import begin, is_cut_off
from rscap.progress import Progress, Say
from rscap.recipe import DataSection
from rscap.records import Example, ScoreSheet
from rscap.stopping import stopping
from rscap.store import Ending, EvaluationSettings, Journal, Provenance, RunFolder, write_rejected
from rscap.tables import check_table


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRequest:
    """What the command line asks for."""

    source: str
    splits: str | None = None
    split: str = "test"
    limit: int | None = None
    out: Path | None = None
    max_rejected_share: float | None = None
    baselines: bool = True


def evaluate_remote(
    captioner: RemoteCaptioner, request: RemoteRequest, *, progress: Progress, say: Say
) -> tuple[RunFolder, dict[str, ScoreSheet]]:
    """Caption a split by a served model and score the captions; returns the folder and the sheets by name.

    The same request resumes one that was cut off. Whether the model has seen the images is not known, and the sheet
    says so.

    Raises:
        DataError: too many images cannot be used, by us or by the server.
        RemoteError: the server does not answer as it should.
        StoreError: the place is taken.
        Interrupted: SIGTERM or Ctrl-C; the captions so far are kept.
    """
    named = ("source", "splits", "max_rejected_share")
    given = {name: value for name in named if (value := getattr(request, name)) is not None}
    data = check_table(DataSection, given, name="data")
    source = open_data(data)
    place = _place(captioner, request)
    test = source.subset(request.split, request.limit, 0) if request.limit else source.split(request.split)
    target = begin(place, _settings(captioner, request, data))
    try:
        with FileLock(place / f".lock-{request.split}", timeout=0), stopping():
            journal = Journal(target.captions_so_far(request.split), _asked(captioner, source))
            sheets = _carried_out(captioner, request, target, source, test, journal, progress, say, data)
            target.close("finished")
            journal.end()  # last of all: until here the captions are worth keeping
    except Timeout:
        raise StoreError(f"another process is at work in {place}", hint="wait for it, or stop it") from None
    except BaseException as error:
        with suppress(OSError):
            state: Ending = "interrupted" if isinstance(error, Interrupted) else "failed"
            target.close(state, error=f"{type(error).__name__}: {error}")
        if isinstance(error, Interrupted):
            error.hint = "the same command continues where it stopped"
        raise
    return target, sheets


def _carried_out(
    captioner: RemoteCaptioner,
    request: RemoteRequest,
    target: RunFolder,
    source: Source,
    test: list[Example],
    journal: Journal,
    progress: Progress,
    say: Say,
    data: DataSection,
) -> dict[str, ScoreSheet]:
    facts = provenance.collect(
        data={"name": source.name, "digest": source.digest, "split_scheme": source.split_scheme},
        base=_base(captioner),
        remote=captioner.describe(),
    )
    Provenance(**facts).write(target.provenance_file)
    write_rejected(target.rejected_file, source.rejected)
    if why := journal.set_aside():
        say(f"captions of an interrupted evaluation are made again: {why}")
    done = journal.begin(test, batch_size=1)
    if done:
        say(f"resuming after {len(done):,} of {len(test):,} captions")
    predictions, rejected = caption_all(
        captioner,  # type: ignore[arg-type]  # it has what is asked of it here
        test,
        max_rejected_share=data.max_rejected_share,
        way_out=f"see the reasons, or allow more with --max-rejected-share above {data.max_rejected_share}",
        done=done,
        progress=progress,
        each=journal.add,
        say=say,
    )
    train = source.split("train") if source.splits.get("train") else []
    sheet = score_predictions(predictions, test, train=train, prefix=captioner.prefix, decode=signed(captioner))
    outcome = Outcome(predictions=predictions, rejected=rejected, sheet=sheet)
    baselines = write_baselines(target, request.split, test=test, train=train) if request.baselines and train else {}
    return {target.name: write_outcome(target, request.split, outcome, test)} | baselines


def signed(captioner: RemoteCaptioner) -> str:
    """How the captions were generated, for a signature: the served model, decoding, and the digest of the prompt.

    A model of `rscap serve` is named by the digest of its weights, which says more than its name.
    """
    digest = captioner.own.get("digest")
    model = f"rscap-{digest[:12]}" if digest else captioner.name
    prompt = hashlib.sha256(captioner.prefix.encode()).hexdigest()[:8]
    safe = "".join(letter if letter.isalnum() or letter in "-_./" else "_" for letter in model)
    return f"served-{safe}-{decode_name(captioner.settings)}-prompt-{prompt}"


def _place(captioner: RemoteCaptioner, request: RemoteRequest) -> Path:
    parts = (captioner.name.replace("/", "-"), "served", request.split, str(request.limit) if request.limit else None)
    place = request.out or Path("runs") / "-".join(part for part in parts if part)
    if not is_cut_off(place):
        RunFolder.check_free(place)
    return place


def _settings(captioner: RemoteCaptioner, request: RemoteRequest, data: DataSection) -> EvaluationSettings:
    return EvaluationSettings(
        model=f"{captioner.name} at {captioner.url}",
        data=data.model_dump(mode="json", exclude_none=True),
        split=request.split,
        limit=request.limit,
        prefix=captioner.prefix,
        generate=captioner.settings.model_dump(mode="json"),
    )


def _base(captioner: RemoteCaptioner) -> dict[str, Any]:
    """The model as the provenance of a result names it."""
    return {"name": captioner.name, "revision": None, "digest": captioner.own.get("digest")}


def _asked(captioner: RemoteCaptioner, source: Source) -> dict[str, Any]:
    """Whatever decides what a caption is, as far as it is known."""
    return {"rscap": __version__, **captioner.describe(), "data": source.digest}
