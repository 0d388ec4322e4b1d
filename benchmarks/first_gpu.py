"""The first ten minutes on a GPU: what holds of what was computed, and what would pay.

    python benchmarks/first_gpu.py                                      # everything, most important first
    python benchmarks/first_gpu.py --only decoding flex                 # cases whose names have one of these words
    python benchmarks/first_gpu.py --resume                             # what the record does not hold yet
    python benchmarks/first_gpu.py --device cpu --geometry nano2 --seconds 20 --out x.json     # to try the program

PaliGemma-3B and PaliGemma 2 3B with random weights at their true geometry, made on the device; nothing from the network
and nothing to read. Cases run in order until the seconds are spent. The record is written after each, so that a
command that is cut off leaves what it had; a case that fails says why and costs no other its figures.

training      a step over the adapters of `recipes/risc-fast.toml` on a batch that lies on the device: 224 pixels, 256
              image tokens, five captions of 12 to 20 tokens; beside what `rscap plan` predicts
decoding      captions of 16 tokens, without an adapter and with one in each form; a step as a CUDA graph
flex          FlexAttention over batches of several sizes
exhaustion    memory that runs out
lengths       batches of many lengths: what new shapes cost
activations   the largest numbers in float16

`allocated_bytes` is the most that torch's allocator gave out in a warm step, `reserved_bytes` the most that it took
from the card; `kernels` and `busy_s` are the profiler's, of one step. Needs what `pip install rscap[train]` installs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from common import RESULTS, Load, check_load, count, options, write_record
from on_gpu.activations import Activations
from on_gpu.decoding import Decoding
from on_gpu.exhaustion import Exhaustion
from on_gpu.flex import Flex
from on_gpu.lengths import Varied
from on_gpu.machine import Machine
from on_gpu.models import Models
from on_gpu.training import Training
from rscap.store import read_json

TARGETS = {"bf16": 400.0, "nf4": 200.0}
"""Captions/s on an H200, by precision."""
SHARE_TARGET = 0.40

CAPPED = {"paligemma-3b": "paligemma2-3b", "bench-7M": "nano2", "nano": "nano2"}
"""Which geometry with soft-capped scores goes with which without."""


class Case(Protocol):
    """What is measured in one go."""

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    def measure(self, models: Models, machine: Machine) -> dict[str, Any]: ...

    def line(self, result: dict[str, Any]) -> str: ...


def cases(geometry: str) -> Iterator[Case]:
    """What matters most comes first; cases of one model stand together, since making one takes a while."""
    plain, capped = Training(geometry=geometry), Training(geometry=CAPPED.get(geometry, geometry))
    yield plain
    yield replace(plain, variations=("PEFT's forward pass",))
    for size in (16, 32):
        yield replace(plain, micro_batch=size)
    yield replace(plain, cached=True)
    for size in (8, 16):
        yield replace(plain, micro_batch=size, variations=("compiled",))
    yield Decoding(geometry=geometry)
    yield Varied(geometry=geometry)
    yield replace(plain, micro_batch=16, variations=("cuDNN's attention",))
    for size in (8, 16):
        yield replace(plain, precision="nf4", micro_batch=size)
    yield capped
    yield replace(capped, variations=("PEFT's forward pass",))
    yield replace(capped, variations=("compiled",))
    yield Flex(geometry=capped.geometry)
    yield replace(capped, attention="flex")
    yield Exhaustion(geometry=geometry)
    yield replace(plain, precision="fp16")
    yield Activations(geometry=geometry)
    yield replace(capped, precision="fp16")
    yield Activations(geometry=capped.geometry)
    yield Decoding(geometry=geometry, cudnn=True)
    yield Decoding(geometry=geometry, precision="nf4")
    yield Decoding(geometry=capped.geometry)
    for size in (8, 32):
        yield replace(plain, micro_batch=size, checkpointing=True)
    for size in (1, 2, 4):
        yield replace(plain, micro_batch=size)
    yield replace(plain, micro_batch=16, variations=("PEFT's forward pass",))
    yield replace(plain, micro_batch=16, precision="nf4", checkpointing=True)
    yield replace(capped, micro_batch=16)
    yield replace(capped, micro_batch=16, checkpointing=True)
    yield replace(plain, micro_batch=32, cached=True)


def attempt(case: Case, models: Models, machine: Machine) -> dict[str, Any]:
    """A case, or why there is no figure of it."""
    began = time.perf_counter()
    try:
        result = case.measure(models, machine)
    except Exception as error:
        result = {"failed": f"{type(error).__name__}: {error}"[:1000]}
    if "failed" in result:
        models.drop()
    return {"kind": case.kind, "case": asdict(case), **result, "whole_s": time.perf_counter() - began}  # type: ignore[call-overload]


def say(case: Case, result: dict[str, Any]) -> str:
    """A case in a line."""
    try:
        told = result.get("failed") or result.get("skipped") or case.line(result)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        told = f"measured; {type(error).__name__} in saying it: {error}"
    return f"{case.name} [{result['whole_s']:.0f} s]: {told}"


def write(out: Path, *, load: Load, machine: Machine, results: dict[str, Any], left: list[str]) -> None:
    """The record so far."""
    steps = [one for one in results.values() if one["kind"] == "training" and "failed" not in one]
    best = {precision: max((one["captions_per_s"] for one in steps if one["precision"] == precision), default=0.0)
            for precision in TARGETS}  # fmt: skip
    write_record(
        out,
        load=load,
        threads=torch.get_num_threads(),
        device=machine.describe(),
        card=machine.card.name,
        targets={
            "captions_per_s": TARGETS,
            "share_of_peak": SHARE_TARGET,
            "met": {precision: best[precision] >= target for precision, target in TARGETS.items()},
            "share_met": max((one["share_of_peak"] for one in steps), default=0.0) >= SHARE_TARGET,
        },
        cases=_writable(results),
        not_run=left,
    )


def _writable(value: Any) -> Any:
    """The same with `inf` and NaN as words, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {name: _writable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def earlier(out: Path, machine: Machine) -> dict[str, Any]:
    """What a record of the same device holds already, failures left out.

    Raises:
        SystemExit: the record is of another device.
    """
    if not out.is_file():
        return {}
    record = read_json(out)
    if record["device"]["name"] != machine.name:
        raise SystemExit(f"{out} is a record of {record['device']['name']}, not of {machine.name}: name another --out")
    return {name: one for name, one in record["cases"].items() if "failed" not in one}


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, repetitions=1, out="first_gpu.json")
    parser.add_argument("--device", default="cuda", help="%(default)s")
    parser.add_argument("--geometry", default="paligemma-3b", help="%(default)s")
    parser.add_argument("--seconds", type=count, default=570, help="begin no case after so many (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="cases with one of these words in their names")
    parser.add_argument("--resume", action="store_true", help="keep what the record holds, and measure the rest")
    given = parser.parse_args(arguments)
    began, device = time.perf_counter(), torch.device(given.device)
    if device.type != "cuda" and given.out == RESULTS / "first_gpu.json":
        parser.error("the committed record is of a GPU: name another file with --out")
    load = check_load(busy_ok=given.busy_ok or device.type == "cuda")
    torch.set_num_threads(given.threads)
    machine, models = Machine.of(device), Models(device)
    print(f"{machine.name}: {machine.describe()}", flush=True)
    results = earlier(given.out, machine) if given.resume else {}
    every = {case.name: case for case in cases(given.geometry)}
    left = [name for name in every if name not in results and _asked(name, given.only)]
    while left and time.perf_counter() - began <= given.seconds:
        case = every[left.pop(0)]
        results[case.name] = attempt(case, models, machine)
        write(given.out, load=load, machine=machine, results=results, left=left)
        print(say(case, results[case.name]), flush=True)


def _asked(name: str, words: list[str] | None) -> bool:
    return words is None or any(word in name for word in words)


if __name__ == "__main__":
    main()
