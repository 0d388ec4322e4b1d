"""The library: the whole job as functions. Each is what the command of the same name does, without a terminal.

Paths may be strings or `Path`s. Nothing is printed: messages go to standard error, as the commands' do, and a progress
bar is shown in a terminal or a notebook; `progress=False` silences both. Heavy packages are imported when a function
needs them, so scoring never waits for torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rscap.progress import Progress, Say, no_messages, reporting, to_stderr

if TYPE_CHECKING:
    from rscap.captioner.asking import Captioner
    from rscap.data import Source
    from rscap.data.rows import ImageCheck
    from rscap.doctor import Diagnosis
    from rscap.exporting.request import Exported
    from rscap.planning import Plan
    from rscap.recipe import DataSection, Dtype, Quantisation, Recipe
    from rscap.records import Example, Prediction, Rejected, ScoreSheet
    from rscap.scene import SceneResult
    from rscap.scoring import Comparison, ForeignMetric, IdfPool
    from rscap.scoring.foreign import Function
    from rscap.store import RunFolder
    from rscap.verifying.verification import Verification

FilePath = str | PathLike[str]
"""A path; a `RunFolder` is one too."""

_IN_MEMORY = "examples"
"""The name of a data set that was handed in as examples."""


def open_data(
    data: str | Path | Source | Iterable[Example],
    *,
    splits: str = "official",
    check: ImageCheck = "header",
    normalise: Sequence[str] = (),
    max_rejected_share: float = 0.01,
) -> Source:
    """Open a data set, or make one of your own examples.

    Args:
        data: `sample`, a file or folder in any format of docs/data.md, a Hub id; or any iterable of `Example`s.
        splits: how examples are split; see docs/data.md.
        check: how closely images are looked at now: `decode`, `header`, `exists` or `none`.
        normalise: steps of text normalisation, in order.
        max_rejected_share: the share of rows that may be unusable.

    Raises:
        DataError: nothing to open, too much of it cannot be used, or it was opened in another way before; names it and
            the way out.
    """
    from rscap.data import Source, open_source, source_of

    if isinstance(data, Source):
        _refuse_other(data, splits, normalise)
        return data
    if isinstance(data, str | PathLike):
        return open_source(
            fspath(data), split_scheme=splits, check=check, normalise=normalise, max_rejected_share=max_rejected_share
        )
    return source_of(data, name=_IN_MEMORY, split_scheme=splits, normalise=normalise)


def _refuse_other(source: Source, splits: str, normalise: Sequence[str]) -> None:
    """Refuse an opened source where a split scheme or a normalisation is named that it was not opened with.

    Raises:
        DataError: names both.
    """
    from rscap.errors import DataError

    for name, wanted, found, default in (
        ("splits", splits, source.split_scheme, "official"),
        ("normalise", tuple(normalise), source.normalised, ()),
    ):
        if wanted not in (default, found):
            raise DataError(
                f"{source.name} was opened with {name}={found!r}, not with {name}={wanted!r}",
                hint=f"open_data(…, {name}={wanted!r}) opens it so",
            )


def read_recipe(recipe: FilePath | Mapping[str, Any] | Recipe, *overrides: str) -> Recipe:
    """Read and check a recipe.

    Args:
        recipe: the name of one that ships with rscap (`risc-fast`), a TOML file, a dictionary of sections, or a recipe.
        overrides: `section.key=value` each, such as `train.max_steps=300`.

    Raises:
        RecipeError: not found, or unknown or wrong keys; names each.
    """
    from rscap.recipe import Recipe
    from rscap.recipe import read_recipe as read

    if isinstance(recipe, Recipe):
        recipe = recipe.model_dump(mode="json", exclude_none=True)
    return read(recipe if isinstance(recipe, Mapping) else Path(recipe), overrides)


def train(
    recipe: FilePath | Mapping[str, Any] | Recipe,
    out: FilePath | None = None,
    *,
    data: Source | Iterable[Example] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> RunFolder:
    """Train as a recipe says.

    Args:
        recipe: what `read_recipe` takes; or, with `resume`, a run folder, which continues by its own recipe.
        out: the run folder; `runs/<name>` by default, with a number behind it where that is taken.
        data: your own examples, in place of the recipe's `data.source`; hand in the same ones to resume.
        resume: continue the run in `out` if it was cut off, return it if it is finished, begin it if there is none.
        progress: show messages and a progress bar.

    Returns:
        The run folder: hand it to `evaluate`, `load`, `report`, `export` and `diagnose`, or use it as a path.

    Raises:
        RscapError: whatever makes the recipe impossible to run; the folder then says `failed` and why.
        Interrupted: SIGTERM or Ctrl-C; the folder says `interrupted`, and `resume=True` continues.
    """
    if isinstance(recipe, str | PathLike) and Path(recipe).is_dir():
        recipe, out = _continued(Path(recipe), out, resume)
    checked = read_recipe(recipe)
    if out is None:
        name = Path(recipe).stem if isinstance(recipe, str | PathLike) else "run"
        out = Path("runs") / name if resume else free_run_folder(name)
    from rscap.training.session import train as run

    source = None if data is None else open_data(data, splits=checked.data.splits, normalise=checked.data.normalise)
    if source is not None:  # the recipe in the run folder names what it was trained on
        data_section = {"source": source.name, "splits": source.split_scheme, "normalise": source.normalised}
        checked = checked.model_copy(update={"data": checked.data.model_copy(update=data_section)})
        checked = checked.model_copy(update={"data": _importable(source, checked.data)})
    return run(checked, Path(out), say=_say(progress), resume=resume, source=source, progress=progress)


def _continued(run: Path, out: FilePath | None, resume: bool) -> tuple[Path, Path]:
    """The recipe and the folder of a run that was named in place of a recipe.

    Raises:
        RecipeError: it was not asked to continue, or was to continue in another folder.
    """
    from rscap.errors import RecipeError
    from rscap.store import RunFolder

    if not resume:
        raise RecipeError(f"{run} is a folder and no recipe", hint="resume=True continues the run in it")
    if out is not None and Path(out).resolve() != run.resolve():
        raise RecipeError(f"{run} continues in its own folder, not in {out}", hint="leave `out` away")
    return RunFolder(run).recipe_file, run


def free_run_folder(name: str) -> Path:
    """`runs/<name>`, with a number behind it where that is taken."""
    folder, number = Path("runs") / name, 2
    while folder.exists():
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder


def evaluate(
    model: FilePath,
    data: str | Path | Source | Iterable[Example] | None = None,
    *,
    split: str = "test",
    splits: str | None = None,
    limit: int | None = None,
    out: FilePath | None = None,
    prefix: str | None = None,
    dtype: Dtype | None = None,
    base: str | None = None,
    quantisation: Quantisation | None = None,
    merged: bool = False,
    max_rejected_share: float | None = None,
    baselines: bool = True,
    allow_seen: bool = False,
    resume: bool = False,
    progress: bool = True,
    **decode: Any,
) -> ScoreSheet:
    """Caption a split and score the captions, in a folder that `report` reads.

    Args:
        model: a run, an adapter of another program (a folder or a name on the Hub), or a base model, zero-shot.
        data: a data set; by default the run's own. A base model needs one.
        split: which split is captioned.
        splits: how the data are split; by default as in the run.
        limit: at most this many images, chosen by a hash.
        out: where the result goes; the run folder itself for its own data, a new folder below `runs` otherwise.
        prefix: the words before the caption, in place of those the model was trained with.
        dtype: precision of a base model, by default what the card computes best; a run is evaluated as it was trained.
        base: the base model of an adapter, in place of the one that it names.
        quantisation: of a base model, alone or below an adapter; a run is held as it was trained.
        merged: add the adapter to the weights of its base; the signature tells it.
        max_rejected_share: the share of images that may be unreadable; by default as in the run.
        baselines: also score the constant caption and the nearest training image, in the same folder.
        allow_seen: also score images that the run was trained on; signature, sheet and report are marked.
        resume: return the sheet of the same evaluation where it is finished; one that was cut off resumes anyway.
        progress: show messages and a progress bar.
        decode: decode settings, such as `beams=3`.

    Returns:
        `sheet.corpus["CIDEr"]`, `sheet.intervals["CIDEr"]`, `sheet.items[id]`, `sheet.signature`.

    Raises:
        DataError: the run was trained on images of this evaluation, and `allow_seen` is not set; says how many.
        RscapError: whatever else makes it impossible; says what to do.
        Interrupted: SIGTERM or Ctrl-C; the same call continues.
    """
    from rscap.evaluation.request import Request, prepare
    from rscap.evaluation.request import evaluate as run

    named = fspath(data) if isinstance(data, str | PathLike) else None
    given = None
    if data is not None and not isinstance(data, str | PathLike):
        given = _as_in_run(Path(fspath(model)), data, splits)
    request = Request(
        model=fspath(model),
        source=named if given is None else given.name,
        splits=splits if given is None else given.split_scheme,
        split=split,
        limit=limit,
        prefix=prefix,
        dtype=dtype,
        base=base,
        quantisation=quantisation,
        merged=merged,
        out=None if out is None else Path(out),
        max_rejected_share=max_rejected_share,
        baselines=baselines,
        allow_seen=allow_seen,
        changes=tuple(f"generate.{key}={value}" for key, value in decode.items()),
        resume=resume,
        given=None if given is None else given.for_training().digest,
    )
    task = prepare(request)
    if given is not None:
        task = replace(task, data=_importable(given, task.data))
    with reporting(progress, f"captions ({split})") as bar:
        folder, sheets = run(task, progress=bar, say=_say(progress), source=given)
    _say(progress)(f"written: {folder.scores(split)}")
    return sheets[folder.name]


def _as_in_run(model: Path, data: Source | Iterable[Example], splits: str | None) -> Source:
    """Examples that are handed in, split as a run split its own, unless another way is named."""
    from rscap.recipe import read_recipe
    from rscap.store import RunFolder

    recipe = RunFolder(model).recipe_file
    if splits is None and recipe.is_file():
        splits = read_recipe(recipe).data.splits
    return open_data(data, splits=splits or "official")


def _importable(source: Source, section: DataSection) -> DataSection:
    """The section without data workers, if it leaves that open and the caller's script defines the kind of image.

    Raises:
        DataError: it asks for workers, which cannot hold such images; names the class.
    """
    from rscap.data.images import OwnImage
    from rscap.errors import DataError

    for example in source.examples if section.workers else ():
        kind = type(example.image.handle if isinstance(example.image, OwnImage) else example.image)
        if kind.__module__ == "__main__":
            if section.workers == "auto":
                return section.model_copy(update={"workers": 0})
            raise DataError(
                f"the image of example {example.id!r} is a {kind.__name__}, which this script or notebook defines: "
                "data workers cannot import it from there",
                hint="move the class to a module of its own, or set data.workers=0",
            )
    return section


def load(
    model: FilePath,
    *,
    base: str | None = None,
    device: str | None = None,
    dtype: Dtype | None = None,
    quantisation: Quantisation | None = None,
    prefix: str | None = None,
    merged: bool = False,
) -> Captioner:
    """Load a run, an adapter or a base model once, to ask it often: `load("runs/mine").caption("a.jpg")`.

    Args:
        model: a run; an adapter of another program, as a folder or by its name on the Hub; or a base model: `nano`, a
            local folder, or a name on the Hub.
        base: the base model of an adapter, in place of the one that it names.
        device: `cuda`, `cuda:1`, `mps` or `cpu`; by default the best that this machine has.
        dtype: precision of products; by default as the run was trained, and what the card computes best for a base.
        quantisation: `nf4` or `int8` for a base model, alone or below an adapter; a run is held as it was trained.
        prefix: the words before the caption; by default those the run was trained with.
        merged: add the adapter to the weights of its base, which costs less for each token and rounds them once more.

    Raises:
        StoreError: a run that did not finish, whose weights were changed, or that does not exist.
        AdapterError: an adapter that cannot be used, does not fit its base model, or cannot be merged.
        ModelError: a base model that cannot be loaded, or a device that is not there; says why.
        RecipeError: no such dtype.
    """
    from rscap.captioner import load as run

    return run(
        fspath(model),
        base=base,
        device=device,
        dtype=dtype,
        quantisation=quantisation,
        prefix=prefix,
        merged=merged,
    )


def caption_scene(
    scenes: FilePath | Sequence[FilePath],
    model: FilePath | Captioner | Any,
    out: FilePath,
    *,
    window: int = 224,
    stride: int | None = None,
    gsd: float | None = None,
    bands: Sequence[int | str] = (),
    stretch: tuple[float, float] | Literal["minmax"] = (2.0, 98.0),
    value_range: tuple[float, float] | None = None,
    joint: bool = False,
    min_valid: float = 0.5,
    aoi: FilePath | tuple[float, float, float, float] | None = None,
    crs: str | None = None,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    partition: int | None = None,
    retry: bool = False,
    progress: bool | Progress = True,
    **model_options: Any,
) -> SceneResult:
    """Caption rasters window by window, with the place of each caption; docs/scenes.md describes the files.

    A call that was cut off resumes where it was, and ends with the same bytes. It needs the extra `geo`.

    Args:
        scenes: rasters: files, folders, patterns, lists, addresses, sub-datasets by name; one or several.
        model: a run, a base model, a captioner, or any object with a captioner's `predictions`.
        out: a file named .geojson, .geojsonl, .parquet or .csv, or a folder for all of them.
        window: pixels on a side of what the model sees.
        stride: pixels from one window to the next.
        gsd: metres on the ground that a pixel is resampled to.
        bands: red, green and blue as numbers from 1 or descriptions, or one for grey.
        stretch: percentiles of the scene that become black and white, for values deeper than 8 bits.
        value_range: the values that become black and white, in place of `stretch`.
        joint: one stretch for all bands.
        min_valid: a window with a smaller share of valid pixels is skipped.
        aoi: a GeoJSON file, or (west, south, east, north) in degrees.
        crs: the CRS of scenes that name none.
        engine: `ray` captions on the workers of a Ray cluster, or of this machine (docs/scenes.md).
        workers: how many of them.
        partition: captions in each file of GeoParquet, which is a folder of files then.
        retry: try scenes again that failed or were damaged in an earlier call.
        progress: True shows messages and a bar; a function receives how many windows are done, and how many there are.
        model_options: `prefix`, `dtype` and `device` of a model that is named; `changes=["generate.beams=3"]` decodes
            otherwise.

    Returns:
        `result.files`, `result.captioned`, `result.skipped`, and `result.complaints`: scenes that were not captioned
        whole, with the reason.

    Raises:
        SceneError: no scene is named, or the options contradict each other.
        StoreError: `out` is taken, in use, or holds captions that were asked for otherwise; no room is left.
        Interrupted: SIGTERM or Ctrl-C; the same call resumes.
    """
    from rscap.scene import SceneRequest, StretchRule, caption_scenes
    from rscap.scene.model import asked_model

    if value_range is not None:
        rule = StretchRule(kind="range", low=value_range[0], high=value_range[1], joint=joint)
    elif stretch == "minmax":
        rule = StretchRule(kind="minmax", joint=joint)
    else:
        rule = StretchRule(low=float(stretch[0]), high=float(stretch[1]), joint=joint)
    request = SceneRequest(
        window=window,
        stride=stride,
        gsd=gsd,
        bands=tuple(map(str, bands)),
        stretch=rule,
        min_valid=min_valid,
        aoi=",".join(map(str, aoi)) if isinstance(aoi, tuple) else None if aoi is None else fspath(aoi),
        crs=crs,
    )
    asked = asked_model(model, **model_options)
    with reporting(progress, "windows") as bar:
        return caption_scenes(
            scenes,
            asked,
            Path(out),
            request,
            engine=engine,
            workers=workers,
            partition=partition,
            retry=retry,
            say=_say(bool(progress)),
            progress=bar,
        )


def score(
    candidates: Mapping[str, str] | Iterable[Prediction | Rejected] | FilePath,
    references: Mapping[str, Sequence[str]] | Iterable[Example] | Source | FilePath,
    *,
    split: str | None = None,
    protocol: str = "coco",
    metrics: Sequence[str | Function | ForeignMetric] | None = None,
    pool: IdfPool | None = None,
    draws: int | None = None,
    **more: Any,
) -> ScoreSheet:
    """Score one caption an image against its references. Needs neither torch nor the images.

    Args:
        candidates: `{id: caption}`, predictions, or a file of them.
        references: `{id: captions}`, examples, a data set, or a file of references in a format of docs/scoring.md.
        split: of a data set or a file that names splits.
        protocol: `coco`, `raw` or `sentence`; see docs/scoring.md.
        metrics: names, or functions of your own; see docs/extending.md. All of the protocol by default.
        pool: document frequencies for CIDEr; by default those of the references.
        draws: bootstrap resamples behind the intervals; 0 for none.
        more: further arguments of `rscap.scoring.score_captions`.

    Raises:
        ScoreError: ids differ, an image has no reference, or an argument has no such value.
    """
    from rscap import scoring
    from rscap.errors import ScoreError

    if split is not None and isinstance(references, Mapping):
        raise ScoreError("split chooses among the references of a file or a data set", hint="leave `split` away")
    found, known = _pair(candidates, references, split)
    said: dict[str, Any] = {}
    if isinstance(found, scoring.Candidates):
        said |= {"prefix": found.prefix}
    if isinstance(known, scoring.References):
        said |= {"sources": known.sources, "scene_classes": known.scene_classes}
    return scoring.score_captions(
        found,
        known,
        protocol=protocol,
        metrics=metrics,
        pool=pool,
        draws=scoring.DRAWS if draws is None else draws,
        **{**said, **more},
    )


def _pair(
    candidates: Mapping[str, str] | Iterable[Prediction | Rejected] | FilePath,
    references: Mapping[str, Sequence[str]] | Iterable[Example] | Source | FilePath,
    split: str | None,
) -> tuple[Mapping[str, str], Mapping[str, Sequence[str]]]:
    from rscap.scoring import load_candidates, load_pair, load_references

    files = [fspath(given) if isinstance(given, str | PathLike) else None for given in (candidates, references)]
    if files[0] is not None and files[1] is not None:
        return load_pair(files[0], files[1], split)
    return (
        _captions(candidates) if files[0] is None else load_candidates(files[0]),
        _references(references, split) if files[1] is None else load_references(files[1], split),
    )


def _captions(given: Any) -> Mapping[str, str]:
    """Captions by id of `{id: caption}` or of predictions; an image that was rejected has none, which scoring tells."""
    from rscap.records import Prediction, Rejected
    from rscap.scoring import Candidates
    from rscap.scoring.references import refuse_twice

    if isinstance(given, Mapping):
        return given
    items = _listed(given, (Prediction, Rejected), "candidates are {id: caption}, a list of predictions, or a file")
    predictions = [item for item in items if isinstance(item, Prediction)]
    refuse_twice("predictions", [prediction.example_id for prediction in predictions])
    prefixes = {prediction.prefix for prediction in predictions}
    captions = {prediction.example_id: prediction.caption for prediction in predictions}
    return Candidates(captions, prefixes.pop() if len(prefixes) == 1 else None)


def _listed(given: Any, kinds: tuple[type, ...], hint: str) -> list[Any]:
    """The items of an iterable, all of some kinds.

    Raises:
        ScoreError: it is no iterable, or names the first item of another kind.
    """
    from rscap.errors import ScoreError

    if not isinstance(given, Iterable):
        raise ScoreError(f"an object of type {type(given).__name__} holds no captions", hint=hint)
    items = list(given)
    for number, item in enumerate(items):
        if not isinstance(item, kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise ScoreError(f"item {number} is of type {type(item).__name__}, not {names}", hint=hint)
    return items


def _references(given: Any, split: str | None) -> Mapping[str, Sequence[str]]:
    """Captions by id of `{id: captions}`, of examples, or of a data set."""
    from rscap.data.source import Source
    from rscap.records import Example
    from rscap.scoring import References
    from rscap.scoring.references import refuse_twice

    if isinstance(given, Mapping):
        return given
    if isinstance(given, Source):
        given = given.examples if split is None else given.split(split)
    examples = _listed(given, (Example,), "references are {id: [caption]}, a list of examples, a data set, or a file")
    refuse_twice("references", [example.id for example in examples])
    return References(
        captions={example.id: example.captions for example in examples},
        sources={example.id: example.source for example in examples if example.source},
        scene_classes={example.id: example.scene_class for example in examples if example.scene_class},
    )


def compare(
    systems: Mapping[str, ScoreSheet | FilePath | Sequence[ScoreSheet | FilePath]],
    *,
    metric: str = "CIDEr",
    split: str = "test",
    draws: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare systems on the same images: differences, intervals, p-values, and a sentence for each pair.

    Args:
        systems: `{name: sheet}`; a sheet is what `evaluate` or `score` gives, its file, or a run folder. A list holds
            replicates of one system, trained with different seeds.
        metric: one that all sheets have.
        split: which sheet of a run folder.
        draws: how many draws of the bootstrap, and how many random swaps.
        seed: of both.

    Raises:
        ScoreError: fewer than two systems, one without a sheet, or sheets that cannot be compared; says why.
    """
    from rscap import scoring
    from rscap.errors import ScoreError
    from rscap.records import ScoreSheet

    if not isinstance(systems, Mapping):
        raise ScoreError(
            f"systems is a {type(systems).__name__} and names none", hint='{"mine": sheet, "theirs": sheet}'
        )
    sheets: dict[str, ScoreSheet] = {}
    names: dict[str, str] = {}
    for name, given in systems.items():
        several = [given] if isinstance(given, ScoreSheet | str | PathLike) else list(given)
        if not several:
            raise ScoreError(f"system {name!r} has no score sheet", hint="a list holds one sheet a training seed")
        for number, one in enumerate(several):
            key = name if len(several) == 1 else f"{name} {number + 1}"
            if key in sheets:
                raise ScoreError(f"{key!r} names a system and a replicate of {name!r}", hint="rename one of them")
            sheets[key] = one if isinstance(one, ScoreSheet) else scoring.read_sheet(_sheet_file(Path(one), split))
            names[key] = name
    return scoring.compare(sheets, metric, systems=names, draws=draws, seed=seed)


def _sheet_file(place: Path, split: str) -> Path:
    from rscap.store import RunFolder

    return RunFolder.open(place).scores(split) if place.is_dir() else place


def report(
    runs: FilePath | Sequence[FilePath],
    out: FilePath,
    *,
    split: str | None = None,
    metric: str | None = None,
) -> list[Path]:
    """Write one page about runs, or about a study, and its table in other formats.

    Args:
        runs: run folders in the order of the table, or the folder of one study.
        out: the page, `*.html`; an earlier one is replaced.
        split: whose scores of runs are shown, `test` by default; a study has its own.
        metric: what a study is judged by, CIDEr by default; a page about runs shows all.

    Returns:
        The files written, the page first; a study's PDF among them where fpdf2 is installed.

    Raises:
        StoreError: a folder that is neither, `out` is not named like a page, a study with a split, or runs with a
            metric.
    """
    from rscap.reports import write_report
    from rscap.reports.study import report_subject, write_study_report

    places = [Path(run) for run in ([runs] if isinstance(runs, str | PathLike) else runs)]
    subject = report_subject(places, split, metric)
    if subject.study:
        return write_study_report(subject.study, Path(out), metric=subject.metric)
    return write_report(places, Path(out), split=subject.split)


def verify(
    thing: FilePath,
    *,
    files: Sequence[FilePath] = (),
    candidates: FilePath | None = None,
    references: FilePath | None = None,
    split: str | None = None,
) -> Verification:
    """Recompute every figure of a run, a report page, a study, an export's card or a score sheet from its captions.

    Args:
        thing: its folder, the page, or the score sheet.
        files: the folders that a page or a card was made from, if they have moved: the runs of a page in its order, the
            evaluation of a card.
        candidates: the captions that a score sheet was computed from, in a file that `rscap score` reads.
        references: the data set with the references of a score sheet.
        split: the split of these references, if only one was scored.

    Returns:
        `found.holds`, `found.findings` (the first that differs first), `found.checked`, `found.unchecked`.

    Raises:
        StoreError: it cannot be verified; says why.
    """
    from rscap.verifying import verify as run

    return run(
        Path(thing),
        files=[Path(one) for one in files],
        candidates=None if candidates is None else Path(candidates),
        references=None if references is None else Path(references),
        split=split,
    )


def plan(recipe: FilePath | Mapping[str, Any] | Recipe, gpu: str | int | float | None = None) -> Plan:
    """Predict the memory and time of a recipe on a card, and propose settings that fit.

    Args:
        recipe: what `read_recipe` takes.
        gpu: a card by name or size, such as `A100-40GB` or `16GB`, or its GB as a number; this machine by default.

    Raises:
        RecipeError: a recipe that cannot be run, or a card that is not known.
    """
    checked = read_recipe(recipe)
    from rscap.planning import find_card, plan_recipe
    from rscap.planning.cards import this_machine

    return plan_recipe(
        checked,
        this_machine(checked.model.dtype) if gpu is None else find_card(gpu if isinstance(gpu, str) else f"{gpu}GB"),
    )


def export(
    run: FilePath,
    out: FilePath | None = None,
    *,
    form: Literal["merged", "adapter"] = "merged",
    dtype: Dtype | None = None,
    progress: bool = True,
    **more: Any,
) -> Exported:
    """Export a finished run for others: merged weights or an adapter, compared with the run, with a model card.

    Args:
        run: a finished run.
        out: where the export goes; `exports/<run>` by default.
        form: `merged` into the base, or the `adapter` alone.
        dtype: precision of merged weights; that of the recipe by default.
        progress: show messages.
        more: `images`, `agree`, `push_to`, `public`, `evaluation`, `evaluation_at`; see docs/export.md.

    Raises:
        ExportError: the captions of the export differ from those of the run; nothing is written then.
        StoreError: no finished run, or the target is taken.
    """
    from rscap.exporting.request import ExportRequest
    from rscap.exporting.request import export as carry_out

    place = None if out is None else Path(out)
    return carry_out(ExportRequest(run=Path(run), out=place, form=form, dtype=dtype, **more), say=_say(progress))


def diagnose(thing: FilePath | Mapping[str, Any] | Recipe, *overrides: str, probe: bool = True) -> Diagnosis:
    """Find out why a run is bad, or why a recipe would be.

    Args:
        thing: a run folder, what `read_recipe` takes, or a folder with the files of another program's run.
        overrides: `section.key=value` for a recipe.
        probe: load the base model and the data and measure; otherwise only files are read.

    Returns:
        `diagnosis.sound`, and `diagnosis.findings` with evidence, reason and cure each.

    Raises:
        StoreError: there is nothing to examine.
    """
    from rscap.doctor import diagnose as look

    if isinstance(thing, str | PathLike):
        return look(Path(thing), overrides=overrides, live=probe)
    table = thing if isinstance(thing, Mapping) else thing.model_dump(mode="json", exclude_none=True)
    return look(table, overrides=overrides, live=probe)


def _say(progress: bool) -> Say:
    return to_stderr if progress else no_messages
