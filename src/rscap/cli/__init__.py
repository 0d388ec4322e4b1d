"""The command line. Commands import what they need when they run, so that `rscap --help` answers at once."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import rscap
from rscap.allocator import let_segments_grow
from rscap.cli.ablate import ablate
from rscap.cli.data import app as data_app
from rscap.cli.evaluate import caption, evaluate
from rscap.cli.init import init
from rscap.cli.plan import plan
from rscap.cli.recipe import app as recipe_app
from rscap.cli.report import compare, doctor, report
from rscap.cli.scene import scene, scene_map, search
from rscap.cli.score import score
from rscap.cli.serve import serve
from rscap.cli.similarity import similarity
from rscap.cli.train import export, quickstart, train
from rscap.cli.verify import verify
from rscap.errors import Interrupted, RscapError, StoreError

_TOOK_A_FILE = ("score", "compare", "plan", "inspect", "audit")
"""Commands whose `--json` took the file to write until 0.1; it is a flag now, and files go by `--out`."""


class _Commands(TyperGroup):
    """All commands; for one version `--json FILE.json` is still read as `--out FILE.json`, with a note."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not any(word in _TOOK_A_FILE for word in args[:2]):
            return super().parse_args(ctx, args)
        words = list(args)
        for place, (option, file) in enumerate(pairwise(words)):
            # Of `compare` and `data`, files that exist may be what is to be read: they are never written over.
            may_be_input = words[0] in ("compare", "data") and Path(file).exists()
            if option == "--json" and file.endswith(".json") and not may_be_input:
                typer.echo(f"note: --json is a flag now and prints; {file} is written as by --out {file}", err=True)
                words[place] = "--out"
        return super().parse_args(ctx, words)


app = typer.Typer(
    name="rscap",
    cls=_Commands,
    help="Remote-sensing image captioning: fine-tune models, caption images, score in a way that can be trusted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_COMMANDS = (
    quickstart,
    init,
    plan,
    train,
    evaluate,
    caption,
    scene,
    search,
    score,
    compare,
    similarity,
    report,
    verify,
    export,
    ablate,
    doctor,
    serve,
)
for command in _COMMANDS:
    app.command(command.__name__)(command)
app.command("map")(scene_map)
app.add_typer(data_app, name="data")
app.add_typer(recipe_app, name="recipe")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(rscap.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before a command."""


CLOSED_PIPE = 141
"""What shells say of a program whose reader went away (SIGPIPE)."""


def main() -> None:
    """Run the command line; an error of ours is two lines on standard error and exit code 2, not a traceback."""
    let_segments_grow()  # before a command imports torch
    _open_streams()
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # `rscap … | head`
        code = CLOSED_PIPE
    except OSError as error:  # the flush, on a full disk
        _complain(_told(error))
        code = 2
    if code == CLOSED_PIPE:
        _point_nowhere()
    sys.exit(code)


def _run() -> int | str | None:
    """Run the command; the exit code."""
    try:
        app()
    except SystemExit as ended:  # of Typer, which also ends so where a pipe was closed
        return CLOSED_PIPE if isinstance(ended.__context__, BrokenPipeError) else ended.code
    except BrokenPipeError:
        return CLOSED_PIPE
    except Interrupted as error:
        _complain(error)
        return 130  # as shells do for Ctrl-C: a script can distinguish "resume it" from "fix it"
    except RscapError as error:
        _complain(error)
        return 2
    except (OSError, MemoryError) as error:
        _complain(_told(error))
        return 2
    except Exception as error:
        if not (told := _no_room(error) or _not_installed(error)):
            raise
        _complain(told)
        return 2
    return 0


def _open_streams() -> None:
    """A stream that was closed (`2>&-`) leads nowhere; one that cannot show a character shows its number."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the program ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _point_nowhere() -> None:
    """Let what is still to be written out vanish, so that Python says nothing about it when it ends."""
    with suppress(OSError, ValueError):  # streams of a test have no number
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())


_WAYS = {
    errno.EACCES: "the user who runs rscap needs the right to read and write there; or choose another place",
    errno.EPERM: "the user who runs rscap needs the right to read and write there; or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENAMETOOLONG: "file systems take names of 255 bytes; choose a shorter one",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EISDIR: "name a file in it",
    errno.EMFILE: "raise the limit (`ulimit -n`), or use fewer data.workers",
    errno.ESTALE: "the file server has lost it: try again, or work on a local disk",
    errno.ENOLCK: "work on a local disk: this file system has no locks",
    errno.EIO: "the disk or the network reports an error: check it before anything else",
}


def _told(error: OSError | MemoryError) -> RscapError:
    """An error of the operating system in two lines: the file, what the system says, and what to do."""
    if isinstance(error, MemoryError):
        return RscapError("there is not enough memory for this", hint="free some, lift its limit, or take less at once")
    if told := _no_room(error):
        return told
    files = " -> ".join(dict.fromkeys(os.fsdecode(one) for one in (error.filename, error.filename2) if one))
    reason = error.strerror or str(error).strip().partition("\n")[0] or type(error).__name__
    return RscapError(f"{files}: {reason}" if files else reason, hint=_WAYS.get(error.errno or 0))


def _no_room(error: BaseException) -> StoreError | None:
    from rscap.store import no_room, way_out

    if not (reason := no_room(error)):
        return None
    place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    return StoreError(
        f"nothing more can be written: {place}{reason}", hint=f"{way_out(reason)}, or choose another place"
    )


def _not_installed(error: Exception) -> RscapError | None:
    """An import failed because an optional dependency is missing: the metadata of rscap name the extra that has it."""
    from importlib.metadata import requires

    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    package = error.name.partition(".")[0]
    for line in requires("rscap") or ():
        if found := re.match(rf"{re.escape(package)}\W.*extra == ['\"](\w+)", line):
            return RscapError(
                f"this command needs the package {package}, which is not installed",
                hint=f"pip install 'rscap[{found.group(1)}]'",
            )
    return None


def _complain(error: RscapError) -> None:
    from rich.text import Text

    from rscap.progress import fold, screen

    console = screen(stderr=True, soft_wrap=True)
    with suppress(OSError):  # nobody reads it, or its disk is full
        for label, style, text in (("error: ", "bold red", error.message), ("hint:  ", "bold", error.hint)):
            if text:
                folded = fold(label + _continued(text), indent=" " * len(label))
                console.print(Text.assemble((label, style), folded.removeprefix(label)))


def _continued(text: str) -> str:
    """Further lines stand back: a line break in a name begins no message of its own."""
    return re.sub(r"\n(?=\S)", "\n  ", text)
