"""The folder of a study: what was planned, what came of every attempt, and what its page needs beside the runs.

study.toml  base.toml   what was asked for, and the recipe that all rows differ from; the study resumes from them
plan.json               every row with its runs, the zero-shot evaluations and the baselines, and their folders
attempts.jsonl          one line a job that ended, in the order in which they ended
thumbnails.jsonl        small pictures of the evaluation images, so that the page needs no data set
runs/<row>/seed-<n>/    run folders; zero-shot/… the folders of evaluations; baselines/<name>/ captions and scores
logs/                   what each job says
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from rscap.errors import StoreError
from rscap.escape import for_file_name
from rscap.store.door import plain_path
from rscap.store.files import BASELINES, REPORT, write_text
from rscap.store.folder import FolderState, RunFolder, State
from rscap.store.record import Record, append_row, read_rows
from rscap.store.thumbnails import read_thumbnails

PLAN = "plan.json"
STUDY = "study.toml"
BASE = "base.toml"
ATTEMPTS = "attempts.jsonl"
THUMBNAILS = "thumbnails.jsonl"
_LOGS = "logs"

_STATES_OF_0_1 = {"partial": "interrupted"}


def _inside(folder: str) -> str:
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{folder!r} lies outside the study")
    return folder


def _state_of_today(word: Any) -> Any:
    return _STATES_OF_0_1.get(word, word) if isinstance(word, str) else word


Folder = Annotated[str, AfterValidator(_inside)]
"""Below the study folder."""


class RunRecord(Record):
    """One row with one seed."""

    seed: int
    folder: Folder


class RowRecord(Record):
    """A row: what sets it apart, and its runs; none where it is excluded."""

    name: str
    differences: dict[str, Any]
    """`section.key` of the recipe to its value; None where it is taken out."""
    runs: tuple[RunRecord, ...]
    excluded: str | None = None
    """Why it is not run."""


class ZeroShotRecord(Record):
    """A base model as it is, asked in one way."""

    folder: Folder
    rows: tuple[str, ...] = ()
    """Those that share it."""
    asked: dict[str, Any] = Field(default_factory=dict)
    """What decides its captions: keys of [model] and [generate], and the prefix."""


class StudyRecord(Record):
    """plan.json."""

    name: str
    reference: str
    split: str
    evaluation: dict[str, Any]
    """`[evaluation]` of the study, with source and splits filled in."""
    rows: tuple[RowRecord, ...]
    zero_shot: tuple[ZeroShotRecord, ...]
    baselines: tuple[Folder, ...]


class Attempt(Record):
    """A line of attempts.jsonl: what came of one job."""

    folder: str
    progress: Annotated[State, BeforeValidator(_state_of_today)]
    reason: str = ""
    seconds: float
    """From start to end, without imports."""
    cpu_seconds: float | None = None
    """Processor time of the job's process, imports included; None where it ended without a word."""

    def content(self) -> dict[str, Any]:
        """All keys, those left at their defaults too."""
        return self.model_dump()


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """Paths of one study folder; reads and writes what is not a run's."""

    path: Path

    @property
    def exists(self) -> bool:
        """Whether a study was begun here."""
        return self.plan_file.is_file()

    @property
    def plan_file(self) -> Path:
        return plain_path(self.path, PLAN)

    @property
    def study_file(self) -> Path:
        return plain_path(self.path, STUDY)

    @property
    def base_file(self) -> Path:
        return plain_path(self.path, BASE)

    @property
    def attempts_file(self) -> Path:
        return plain_path(self.path, ATTEMPTS)

    @property
    def thumbnails_file(self) -> Path:
        return plain_path(self.path, THUMBNAILS)

    @property
    def logs(self) -> Path:
        return plain_path(self.path, _LOGS)

    @property
    def report_file(self) -> Path:
        return plain_path(self.path, REPORT)

    def log(self, folder: str) -> Path:
        """What the process says that makes a folder of the study."""
        return plain_path(self.path, _LOGS, f"{for_file_name(folder)}.log")

    def run(self, folder: str) -> RunFolder:
        """A folder of the plan."""
        return RunFolder(plain_path(self.path, folder))

    def plan(self) -> StudyRecord:
        """What was planned.

        Raises:
            StoreError: there is no study at this path, or its plan is damaged; names the key.
        """
        if not self.exists:
            raise StoreError(
                f"{self.path} is not a study: it has no {PLAN}", hint="`rscap ablate STUDY.toml` makes one"
            )
        return StudyRecord.read(self.plan_file)

    def write(self, plan: StudyRecord, *, study: str, base: str) -> None:
        """Write the plan; `study` and `base` are the TOML files from which the study resumes."""
        write_text(self.base_file, base)
        write_text(self.study_file, study)
        plan.write(self.plan_file)

    def attempts(self) -> list[Attempt]:
        """All attempts so far, in order.

        Raises:
            StoreError: a line is damaged, other than a last one that was cut off.
        """
        return read_rows(self.attempts_file, Attempt, growing=True) if self.attempts_file.exists() else []

    def add_attempt(self, attempt: Attempt) -> None:
        append_row(self.attempts_file, attempt)

    def thumbnails(self) -> dict[str, str]:
        """Small JPEG pictures of the evaluation images, base64, by id; none where the study keeps none.

        Raises:
            StoreError: a line is damaged.
        """
        if not self.thumbnails_file.exists():
            return {}
        return read_thumbnails(self.thumbnails_file)


def explained(found: FolderState, last: Attempt | None) -> FolderState:
    """How far a folder is; where it is not finished, as the last attempt at it says.

    A job that is refused before it makes a folder leaves nothing but its attempt.
    """
    if found.state in ("finished", "failed", "refused") or last is None or last.progress == "finished":
        return found
    return FolderState(last.progress, last.reason)


def run_folder_of(row: str, seed: int) -> str:
    """The place of a run below the study folder."""
    return f"runs/{row}/seed-{seed}"


def zero_shot_folder_of(row: str | None) -> str:
    """The place of a base model's evaluation below the study folder; `row` where rows ask it in several ways."""
    return f"zero-shot/{row}" if row else "zero-shot"


def baseline_folder_of(name: str) -> str:
    """The place of a baseline below the study folder."""
    return f"{BASELINES}/{name}"
