"""`rscap serve`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def serve(
    model: Annotated[
        str, typer.Option(help="A run folder or a base model (`nano` ships with rscap); with adapters, their base.")
    ],
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=RUN", help="A run over the same base, served by this name; may be repeated."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Let other machines in without a key (RSCAP_API_KEY sets one).")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name under which clients address it; may be repeated."),
    ] = None,
    remote_images: Annotated[
        bool, typer.Option("--remote-images", help="Fetch images from public http and https addresses.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Images captioned together.")] = 32,
    queue: Annotated[int, typer.Option(min=1, help="Captions that may wait; further requests get 429.")] = 256,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds until a request must be answered.")] = 60.0,
    max_body_mib: Annotated[int, typer.Option(min=1, help="Size of one request, MiB.")] = 32,
    max_pixels: Annotated[int, typer.Option(min=1, help="Pixels of one image.")] = 25_000_000,
    device: Annotated[str | None, typer.Option(help="cuda, cuda:1, mps or cpu; by default the best there is.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Precision of products; by default as the run was trained, and bfloat16 for a base model."),
    ] = None,
) -> None:
    """Serve captions: an API that OpenAI's clients speak, uploads, and a page to try it in a browser."""
    from rscap.cli.screen import say
    from rscap.errors import RscapError
    from rscap.serving.settings import ServeSettings

    settings = ServeSettings.checked(
        no_key=no_key,
        host=host,
        port=port,
        hosts=tuple(name.lower() for name in allow_host or ()),
        remote_images=remote_images,
        batch=batch,
        queue=queue,
        deadline=deadline,
        max_body=max_body_mib * 2**20,
        max_pixels=max_pixels,
    )
    adapters: dict[str, str] = {}
    for given in adapter or ():
        name, sign, folder = given.partition("=")
        if not (name and sign and folder) or name in adapters:
            raise RscapError(f"--adapter {given}: expected NAME=RUN, each name once", hint="--adapter mine=runs/mine")
        adapters[name] = folder
    from rscap.serving import running  # torch, and the web framework of the extra `serve`

    running.serve(running.open_models(model, adapters, device=device, dtype=dtype), settings, say=say)
