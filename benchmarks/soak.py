"""A server under load for minutes: nothing lost, nothing wrong, memory flat; overload, leaving clients, and its end.

    python benchmarks/soak.py [--seconds 300] [--clients 32] [--leavers 1000] [--threads N] [--busy-ok]

`rscap serve --model nano --dtype float32` runs as a process of its own, and so do the clients, which are niced: the
server gets the cores that it asks for. In order:

steady      so many clients ask one after the other for the time given; every caption is compared with the offline one
offline     `Captioner.answers` over the same images in one process, with as many threads as the server has, in batches
            as `rscap caption` makes them and in those of the server: the share is of the faster. Both take turns with
            `steady` in five slices each, since other work on the machine comes and goes
overload    four times as many as the queue holds ask at once: 200 or 429, and afterwards a caption again
leavers     clients that leave in the middle of their request: captions held, sockets and memory are as before
end         SIGTERM while every client waits for a caption: each is answered, and the process ends with 0
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import psutil

from common import check_load, count, options, write_record
from rscap.sample import sample_examples

QUEUE = 64
TOKENS = 32
SLICES = 5
BATCHES = (16, 32)
"""Images that are captioned together offline: as `rscap caption` does on a CPU, and as the server does."""


@dataclass(slots=True)
class Serving:
    """The server's process: its address, its memory by the second, and what it logged."""

    process: subprocess.Popen[str]
    url: str
    started_s: float
    log: list[str] = field(default_factory=list)
    memory_mib: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def start(cls, threads: int) -> Serving:
        command = [sys.executable, "-m", "rscap", "serve", "--model", "nano", "--dtype", "float32", "--port", "0"]
        begun = time.monotonic()
        process = subprocess.Popen(
            [*command, "--queue", str(QUEUE)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        if not found:
            raise SystemExit(f"the server did not start: {line}{process.stderr.read()}")
        serving = cls(process, found.group(), time.monotonic() - begun)
        threading.Thread(target=serving._read, daemon=True).start()
        threading.Thread(target=serving._watch, daemon=True).start()
        return serving

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)

    def _watch(self) -> None:
        watched = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            try:
                self.memory_mib.append((time.monotonic(), watched.memory_info().rss / 2**20))
            except psutil.Error:
                return
            time.sleep(1)

    def sockets(self) -> int:
        return len(psutil.Process(self.process.pid).net_connections())

    def processor_seconds(self) -> float:
        used = psutil.Process(self.process.pid).cpu_times()
        return used.user + used.system

    def images_in_a_batch(self) -> float:
        """The mean over all batches so far."""
        numbers = dict(line.rsplit(" ", 1) for line in httpx.get(f"{self.url}/metrics").text.splitlines())
        return round(float(numbers["rscap_batch_images_sum"]) / float(numbers["rscap_batch_images_count"]), 1)

    def held(self) -> int:
        return int(httpx.get(f"{self.url}/ready", timeout=30).json()["waiting"])


def pictures(number: int) -> list[tuple[str, str]]:
    """Some scenes of the sample as data URIs, with their ids."""
    found = []
    for example in sample_examples()[:number]:
        stream = io.BytesIO()
        example.image.load().save(stream, "JPEG", quality=90)
        found.append((example.id, f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"))
    return found


def body(uri: str) -> dict[str, Any]:
    """A request for the caption of an image."""
    content = [{"type": "image_url", "image_url": {"url": uri}}]
    return {"model": "nano", "messages": [{"role": "user", "content": content}], "max_tokens": TOKENS}


# The clients, in a process of their own.


async def steady(url: str, clients: int, seconds: float, images: int) -> dict[str, Any]:
    """Clients that ask one after the other."""
    asked = [(name, json.dumps(body(uri)).encode()) for name, uri in pictures(images)]
    latencies, statuses = list[float](), Counter[str]()
    captions: dict[str, set[str]] = {name: set() for name, _ in asked}
    kind = {"Content-Type": "application/json"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)

    async def client(number: int, http: httpx.AsyncClient) -> None:
        draw = random.Random(number)
        while time.monotonic() < end:
            name, content = draw.choice(asked)
            begun = time.monotonic()
            try:
                answer = await http.post("/v1/chat/completions", content=content, headers=kind)
            except httpx.HTTPError as error:
                statuses[f"lost: {type(error).__name__}"] += 1
                continue
            statuses[str(answer.status_code)] += 1
            if answer.status_code == 200:
                latencies.append(time.monotonic() - begun)
                captions[name].add(answer.json()["choices"][0]["message"]["content"])

    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as http:
        started, used = time.monotonic(), time.process_time()
        end = started + seconds
        await asyncio.gather(*(client(number, http) for number in range(clients)))
    return {
        "statuses": statuses,
        "latencies": latencies,
        "seconds": time.monotonic() - started,
        "processor_seconds": time.process_time() - used,
        "captions": {name: sorted(texts) for name, texts in captions.items()},
    }


async def burst(url: str, clients: int, seconds: float, images: int) -> dict[str, Any]:
    """All at once."""
    asked, statuses = pictures(images), Counter[str]()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as http:

        async def one(number: int) -> None:
            try:
                answer = await http.post("/v1/chat/completions", json=body(asked[number % images][1]))
            except httpx.HTTPError as error:
                statuses[f"lost: {type(error).__name__}"] += 1
                return
            statuses[str(answer.status_code)] += 1
            if answer.status_code == 429 and int(answer.headers["Retry-After"]) < 1:
                statuses["429 without a time"] += 1

        await asyncio.gather(*map(one, range(clients)))
    return {"statuses": dict(statuses)}


async def leaving(url: str, clients: int, seconds: float, images: int) -> dict[str, Any]:
    """Clients that leave after a moment, fifty at a time."""
    asked, left = pictures(images), Counter[str]()
    together = asyncio.Semaphore(50)

    async def one(number: int) -> None:
        draw = random.Random(number)
        async with together, httpx.AsyncClient(base_url=url, timeout=draw.uniform(0.005, 0.3)) as http:
            try:
                answer = await http.post("/v1/chat/completions", json=body(asked[number % images][1]))
                left[str(answer.status_code)] += 1
            except httpx.HTTPError:
                left["left"] += 1

    await asyncio.gather(*map(one, range(clients)))
    return {"left": dict(left)}


ROLES = {"steady": steady, "burst": burst, "leaving": leaving}


def clients(role: str, url: str, number: int, seconds: float, images: int) -> subprocess.Popen[str]:
    """A niced process of clients; it prints what became of them."""
    words = [sys.executable, __file__, "--role", role, url, str(number), str(seconds), str(images)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the clients print in the end."""
    out, _ = process.communicate()
    return dict(json.loads(out.splitlines()[-1]))


# The parts of the soak.


def caption_as_told(images: int, threads: int) -> None:
    """The process of `Offline`: captions first, then for each line of input what a stretch of captioning took."""
    import torch

    from rscap.captioner import load
    from rscap.data.images import opened
    from rscap.recipe import GenerateSection
    from rscap.records import Picture

    torch.set_num_threads(threads)
    asked = [Picture(id=name, image=opened(base64.b64decode(uri.partition(",")[2]))) for name, uri in pictures(images)]
    captioner = load("nano", device="cpu", dtype="float32")

    def answers(size: int) -> list[Any]:
        return list(captioner.answers(asked, settings=GenerateSection(max_new_tokens=TOKENS, batch_size=size)))

    print(json.dumps({one.prediction.example_id: one.prediction.caption for one in answers(BATCHES[0])}), flush=True)
    for line in sys.stdin:
        size, seconds = json.loads(line)
        begun, used, made = time.monotonic(), time.process_time(), 0
        while time.monotonic() - begun < seconds:
            made += len(answers(size))
        print(json.dumps([made, time.monotonic() - begun, time.process_time() - used]), flush=True)


class Offline:
    """A process that captions the same images without a server, when it is told to."""

    def __init__(self, images: int, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--role", "offline", str(images), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        self.captions: dict[str, str] = self._told()
        self.rates: dict[int, Rate] = {size: Rate() for size in BATCHES}

    def _told(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def caption(self, seconds: float) -> None:
        """Caption for so many seconds with each size of batch."""
        assert self.process.stdin is not None
        for size, rate in self.rates.items():
            self.process.stdin.write(f"{json.dumps([size, seconds])}\n")
            self.process.stdin.flush()
            rate.add(*self._told())


@dataclass(slots=True)
class Rate:
    """Captions, and the time and the processor time that they took."""

    captions: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    slices: list[float] = field(default_factory=list)

    def add(self, captions: int, seconds: float, processor_seconds: float) -> None:
        self.captions += captions
        self.seconds += seconds
        self.processor_seconds += processor_seconds
        self.slices.append(round(captions / seconds, 2))

    @property
    def each_second(self) -> float:
        return self.captions / self.seconds

    @property
    def processor_ms(self) -> float:
        return 1000 * self.processor_seconds / self.captions

    def described(self) -> dict[str, Any]:
        return {
            "captions_per_second": round(self.each_second, 2),
            "in_slices": self.slices,
            "processor_ms_per_caption": round(self.processor_ms, 2),
        }


def side_by_side(
    serving: Serving, alone: Offline, *, seconds: float, number: int, images: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The steady part and the offline one in turns; figures of each."""
    served, latencies, statuses, used = Rate(), list[float](), Counter[str](), 0.0
    captions: dict[str, set[str]] = {name: set() for name in alone.captions}
    begun = time.monotonic()
    for _ in range(SLICES):
        alone.caption(max(2.0, seconds / 50))
        before = serving.processor_seconds()
        found = told(clients("steady", serving.url, number, seconds / SLICES, images))
        served.add(len(found["latencies"]), found["seconds"], serving.processor_seconds() - before)
        latencies += found["latencies"]
        statuses.update(found["statuses"])
        used += found["processor_seconds"]
        for name, texts in found["captions"].items():
            captions[name].update(texts)
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
    faster = max(alone.rates.values(), key=lambda rate: rate.each_second)
    steady_part = {
        "statuses": dict(statuses),
        "p50_s": round(cuts[49], 3),
        "p95_s": round(cuts[94], 3),
        "p99_s": round(cuts[98], 3),
        **served.described(),
        "clients_processor_ms_per_caption": round(1000 * used / max(served.captions, 1), 2),
        "images_in_a_batch": serving.images_in_a_batch(),
        "share_of_offline": round(served.each_second / faster.each_second, 3),
        "other_captions": sum(bool(texts) and texts != {alone.captions[name]} for name, texts in captions.items()),
        "memory": flatness(serving.memory_mib, begun, time.monotonic()),
    }
    return steady_part, {f"batches_of_{size}": rate.described() for size, rate in alone.rates.items()}


def flatness(samples: list[tuple[float, float]], begun: float, ended: float) -> dict[str, Any]:
    """Memory between two moments, without the first fifth, in four spans of equal length: the median of each, and how
    far these lie from their own. A batch takes memory and gives it back, so single moments differ by more."""
    span = (ended - begun) / 5
    edges = [begun + span * number for number in range(1, 6)]
    medians = [
        statistics.median(mib for moment, mib in samples if start <= moment < end) for start, end in pairwise(edges)
    ]
    middle = statistics.median(medians)
    inside = [mib for moment, mib in samples if moment >= edges[0]]
    return {
        "medians_mib": [round(one, 1) for one in medians],
        "off_the_median_percent": round(100 * max(abs(one - middle) for one in medians) / middle, 2),
        "least_and_most_mib": [round(min(inside), 1), round(max(inside), 1)],
    }


def run(*, seconds: float, number: int, leavers: int, threads: int, images: int = 64) -> dict[str, Any]:
    """The whole soak; figures by part."""
    alone = Offline(images, threads)
    serving = Serving.start(threads)
    try:
        found, without = side_by_side(serving, alone, seconds=seconds, number=number, images=images)
        alone.process.kill()
        over = told(clients("burst", serving.url, 4 * QUEUE, 0, images))
        over["afterwards"] = told(clients("burst", serving.url, 1, 0, images))["statuses"]
        before = serving.held(), serving.sockets()
        gone = told(clients("leaving", serving.url, leavers, 0, images))
        deadline = time.monotonic() + 30
        while (now := (serving.held(), serving.sockets())) > before and time.monotonic() < deadline:
            time.sleep(0.2)
        gone |= {"held_before_after": [before[0], now[0]], "sockets_before_after": [before[1], now[1]]}
        end = ended(serving, min(number, QUEUE // 2), images)
    finally:
        for process in (serving.process, alone.process):
            process.kill()
            process.wait()
    tracebacks = sum("Traceback" in line for line in serving.log)
    return {
        "started_s": round(serving.started_s, 2),
        "offline": without,
        "steady": found,
        "overload": over,
        "leavers": gone,
        "end": end,
        "tracebacks_in_log": tracebacks,
    }


def ended(serving: Serving, number: int, images: int) -> dict[str, Any]:
    """SIGTERM once all of these clients wait."""
    asking = clients("burst", serving.url, number, 0, images)
    most = 0
    while most < number // 2 and asking.poll() is None:  # a busy machine takes its time to start the clients
        most = max(most, serving.held())
    serving.process.send_signal(signal.SIGTERM)
    statuses = told(asking)["statuses"]
    code = serving.process.wait(timeout=120)
    return {"held_at_sigterm": most, "statuses": statuses, "exit_code": code}


def main() -> None:
    if sys.argv[1:3] == ["--role", "offline"]:
        caption_as_told(*map(int, sys.argv[3:5]))
        return
    if sys.argv[1:2] == ["--role"]:
        os.nice(10)
        role, url, number, seconds, images = sys.argv[2:7]
        print(json.dumps(asyncio.run(ROLES[role](url, int(number), float(seconds), int(images)))))
        return
    parser = options(__doc__, repetitions=1, out="soak.json")
    parser.add_argument("--seconds", type=float, default=300.0, help="of the steady part (%(default)s)")
    parser.add_argument("--clients", type=count, default=32, help="at a time (%(default)s)")
    parser.add_argument("--leavers", type=count, default=1_000, help="clients that leave (%(default)s)")
    parser.set_defaults(threads=max(1, (os.cpu_count() or 1) - 1))  # what `rscap serve` takes by itself
    chosen = parser.parse_args()
    load = check_load(busy_ok=chosen.busy_ok)
    found = run(seconds=chosen.seconds, number=chosen.clients, leavers=chosen.leavers, threads=chosen.threads)
    print(json.dumps(found, indent=2))
    asked = {"seconds": chosen.seconds, "clients": chosen.clients, "leavers": chosen.leavers, "queue": QUEUE}
    write_record(chosen.out, load=load, threads=chosen.threads, asked=asked, found=found)


if __name__ == "__main__":
    main()
