"""`rscap quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    out: Annotated[Path, typer.Option(help="Where runs and report go.")] = Path("runs/quickstart"),
) -> None:
    """Run the main job in minutes on a CPU: built-in sample, built-in model, scores and a report."""
    from rscap.cli.screen import progress, say
    from rscap.cli.tables import print_sheets
    from rscap.quickstart import quickstart as run

    sheets, written = run(out, say=say, bar=progress)
    print_sheets(sheets)
    say(f"runs:   {out / 'zero-shot'}, {out / 'adapted'}\nreport: {written[0]}")
