"""A server under load for minutes: nothing lost, nothing wrong, memory flat; overload, leaving clients, and its end.

    python benchmarks/soak.py [--seconds 300] [--clients 32] [--leavers 1000] [--threads N] [--busy-ok]

`rscap serve --model nano --dtype float32` runs as a process of its own, and so do the clients, which are niced: the
server gets the cores that it asks for. In order:

offline     `Captioner.predictions` over the same images in one process, with as many threads as the server has
steady      so many clients ask one after the other for the time given; every caption is compared with the offline one
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
    end = time.monotonic() + seconds
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
        await asyncio.gather(*(client(number, http) for number in range(clients)))
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
    return {
        "statuses": dict(statuses),
        "p50_s": round(cuts[49], 3),
        "p95_s": round(cuts[94], 3),
        "p99_s": round(cuts[98], 3),
        "captions_per_second": round(len(latencies) / seconds, 2),
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


def offline(seconds: float, images: int, threads: int) -> dict[str, Any]:
    """Captions a second of one process that does nothing else, and the captions."""
    code = f"""
import json, time, torch
from rscap.captioner import load
from rscap.data.images import opened
from rscap.recipe import GenerateSection
from rscap.records import Picture
import base64, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from soak import pictures
torch.set_num_threads({threads})
asked = [Picture(id=name, image=opened(base64.b64decode(uri.partition(",")[2]))) for name, uri in pictures({images})]
captioner, settings = load("nano", device="cpu", dtype="float32"), GenerateSection(max_new_tokens={TOKENS})
captions = {{item.example_id: item.caption for item in captioner.predictions(asked, settings=settings)}}
begun, made = time.monotonic(), 0
while time.monotonic() - begun < {seconds}:
    made += len(list(captioner.predictions(asked, settings=settings)))
print(json.dumps({{"captions_per_second": round(made / (time.monotonic() - begun), 2), "captions": captions}}))
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


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
    alone = offline(min(30.0, max(5.0, seconds / 10)), images, threads)
    expected = alone.pop("captions")
    serving = Serving.start(threads)
    try:
        begun = time.monotonic()
        found = told(clients("steady", serving.url, number, seconds, images))
        memory = flatness(serving.memory_mib, begun, time.monotonic())
        wrong = [name for name, texts in found.pop("captions").items() if texts and texts != [expected[name]]]
        found |= {"other_captions": len(wrong), "memory": memory}
        found["share_of_offline"] = round(found["captions_per_second"] / alone["captions_per_second"], 3)
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
        serving.process.kill()
        serving.process.wait()
    tracebacks = sum("Traceback" in line for line in serving.log)
    return {
        "started_s": round(serving.started_s, 2),
        "offline": alone,
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
    if sys.argv[1:2] == ["--role"]:
        os.nice(10)
        role, url, number, seconds, images = sys.argv[2:7]
        print(json.dumps(asyncio.run(ROLES[role](url, int(number), float(seconds), int(images)))))
        return
    parser = options(__doc__, repetitions=1, out="soak.json")
    parser.add_argument("--seconds", type=float, default=300.0, help="of the steady part (%(default)s)")
    parser.add_argument("--clients", type=count, default=32, help="at a time (%(default)s)")
    parser.add_argument("--leavers", type=count, default=1_000, help="clients that leave (%(default)s)")
    chosen = parser.parse_args()
    load = check_load(busy_ok=chosen.busy_ok)
    found = run(seconds=chosen.seconds, number=chosen.clients, leavers=chosen.leavers, threads=chosen.threads)
    print(json.dumps(found, indent=2))
    asked = {"seconds": chosen.seconds, "clients": chosen.clients, "leavers": chosen.leavers, "queue": QUEUE}
    write_record(chosen.out, load=load, threads=chosen.threads, asked=asked, found=found)


if __name__ == "__main__":
    main()
