"""Many clients, one model: who is let in, who waits, who is told to come again, and what is left when they go."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from PIL import Image

from rscap.serving import scheduler
from rscap.serving.app import Server
from rscap.serving.metrics import Metrics
from rscap.serving.models import ServedModels
from rscap.serving.running import leave_a_core
from rscap.serving.settings import ServeSettings, ServingError
from served import Live, asked, chat, client_of, data_uri, png, running

KEY = "a-long-and-secret-key"


@contextmanager
def busy(models: ServedModels) -> Iterator[None]:
    """The model is at work on something else."""
    with models.first.captioner._lock:
        yield


@pytest.mark.parametrize(("chosen", "threads"), [(None, 3), ("4", 4)])
def test_the_model_leaves_one_core_to_requests(
    chosen: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four threads the model of a server uses three, unless OMP_NUM_THREADS says how many."""
    used = [4]
    monkeypatch.setattr("rscap.serving.running.torch.get_num_threads", lambda: used[-1])
    monkeypatch.setattr("rscap.serving.running.torch.set_num_threads", used.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    leave_a_core()
    assert used[-1] == threads


@asynccontextmanager
async def open_server(models: ServedModels, **settings: Any) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    """A server that is running, and a client."""
    server = Server(models, ServeSettings(**settings))
    async with running(server), client_of(server) as client:
        yield server, client


async def until(holds: Any) -> None:
    """Wait for something that is about to hold."""
    for _ in range(2_000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never held")


def number_of(server: Server, name: str) -> float:
    """One of the server's metrics."""
    found = re.search(rf"^{name} (\S+)$", server.metrics.text().decode(), re.MULTILINE)
    assert found, name
    return float(found.group(1))


def test_what_arrives_together_is_captioned_together(models: ServedModels) -> None:
    """Eight requests at once: far fewer batches."""

    async def work() -> None:
        async with open_server(models) as (server, client):
            with busy(models):
                coming = [asyncio.create_task(client.post("/v1/chat/completions", json=chat(n))) for n in range(8)]
                await until(lambda: server.scheduler.held == 8 and not server.scheduler._coming)
            assert {answer.status_code for answer in await asyncio.gather(*coming)} == {200}
            assert number_of(server, "rscap_batch_images_count") <= 3
            assert number_of(server, "rscap_batch_images_sum") == 8

    asyncio.run(work())


def test_a_batch_waits_for_those_who_are_on_their_way(models: ServedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle model waits for a caption that is being made ready, and for clients that it had lately. It waits neither
    for a lone client's company, nor for that of captions which cannot be made together."""
    for name in ("_GAP_SECONDS", "_COMPANY_SECONDS"):
        monkeypatch.setattr(scheduler, name, 600.0)

    async def waits(*, ready: int, coming: int, crowd: int, prompts: int = 1) -> bool:
        """Whether a batch waits for more; one more caption ends its patience."""
        desk = scheduler.Scheduler(ServeSettings(), Metrics())
        desk._crowd, desk._seconds_each = crowd, 600.0
        admission = desk.admit("somebody", ready + coming)
        deadline = asyncio.get_running_loop().time() + 600
        model = models.first
        places = [
            scheduler.Place(
                admission=admission,
                model=model,
                prompt=f"caption {number % prompts}",
                settings=model.settings,
                deadline=deadline,
            )
            for number in range(ready + max(coming, 1))
        ]
        captions = [asyncio.create_task(desk.caption(place)) for place in places[:ready]]
        await asyncio.sleep(0)
        company = asyncio.create_task(desk._company())
        for _ in range(5):
            await asyncio.sleep(0)
        waited = not company.done()
        if not coming:
            places[-1].admission = desk.admit("another", 1)
        captions += [asyncio.create_task(desk.caption(place)) for place in places[ready:]]
        await asyncio.wait_for(company, 60)
        for caption in captions:
            caption.cancel()
        await asyncio.gather(*captions, return_exceptions=True)
        await desk.close()
        return waited

    async def work() -> None:
        assert await waits(ready=1, coming=1, crowd=0)
        assert await waits(ready=3, coming=0, crowd=4)
        assert not await waits(ready=1, coming=0, crowd=1)
        assert not await waits(ready=2, coming=1, crowd=8, prompts=2)
        assert not await waits(ready=32, coming=1, crowd=64)

    asyncio.run(work())


def test_a_full_queue_says_when_to_come_again(models: ServedModels) -> None:
    """429 with Retry-After, at once; those who were let in get their captions, and then there is room again."""

    async def work() -> None:
        async with open_server(models, queue=4) as (server, client), client_of(server, "10.0.0.2") as other:
            with busy(models):
                held = [
                    asyncio.create_task(one.post("/v1/chat/completions", json=chat())) for one in [client, other] * 2
                ]
                await until(lambda: server.scheduler.held == 4)
                refused = await client.post("/v1/chat/completions", json=chat())
                assert refused.status_code == 429
                assert int(refused.headers["Retry-After"]) >= 1
                assert refused.json()["error"]["code"] == "queue_full"
            assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}
            assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200

    asyncio.run(work())


def test_one_client_cannot_starve_others(models: ServedModels) -> None:
    """It may hold half of the queue, and in the next batch each client has a caption before one has its second."""

    async def work() -> None:
        async with open_server(models, queue=12, batch=2) as (server, greedy), client_of(server, "10.0.0.2") as modest:
            order: list[str] = []

            async def ask(client: httpx.AsyncClient, name: str) -> int:
                answer = await client.post("/v1/chat/completions", json=chat())
                order.append(name)
                return answer.status_code

            with busy(models):
                many = [asyncio.create_task(ask(greedy, "greedy")) for _ in range(8)]
                await until(lambda: sum(task.done() for task in many) == 2 and not server.scheduler._coming)
                few = [asyncio.create_task(ask(modest, "modest")) for _ in range(2)]
                await until(lambda: server.scheduler.held == 8 and not server.scheduler._coming)
            assert sorted([await task for task in many]) == [200] * 6 + [429] * 2
            assert [await task for task in few] == [200, 200]
            served = order[2:]  # behind the two refusals
            assert "modest" in served[:4]
            assert served.index("modest") < len(served) - 2

    asyncio.run(work())


def test_a_caption_that_comes_too_late_is_not_made(models: ServedModels) -> None:
    """504 when its time is over, which the client may set lower; the model is then not asked for it."""

    async def work() -> None:
        async with open_server(models) as (server, client):
            with busy(models):
                first = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
                await until(lambda: server.scheduler.at_work == 1)
                late = await client.post("/v1/chat/completions", json=chat(), headers={"X-Deadline": "0.05"})
            assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_passed")
            assert (await first).status_code == 200
            await until(lambda: not server.scheduler._waiting)
            assert number_of(server, "rscap_batch_images_sum") == 1
            assert number_of(server, "rscap_deadlines_passed_total") == 1

    asyncio.run(work())


def test_a_client_that_leaves_is_forgotten(live: Live, models: ServedModels) -> None:
    """Over sockets, whole and in a stream: nothing is held, and the model is not asked."""

    async def work(stream: bool) -> None:
        made = number_of(live.server, "rscap_batch_images_sum")
        async with httpx.AsyncClient(base_url=live.url, timeout=0.4) as client:
            with busy(models):
                left = [client.post("/v1/chat/completions", json=chat(n, stream=stream)) for n in range(6)]
                found = await asyncio.gather(*left, return_exceptions=True)
                assert {type(one) for one in found} <= {httpx.ReadTimeout, httpx.PoolTimeout}
                await until(lambda: live.server.scheduler.held == 0)
        # A batch that was begun while they waited is counted when it ends, which must not be in the next round.
        await until(lambda: not live.server.scheduler._waiting and not live.server.scheduler.at_work)
        assert number_of(live.server, "rscap_batch_images_sum") - made <= 6

    asyncio.run(work(stream=False))
    asyncio.run(work(stream=True))


def test_a_key_keeps_others_out(models: ServedModels) -> None:
    """Without it or with another: 401 and one clear line. Health and page load without, captions and models do not."""
    right = {"Authorization": f"Bearer {KEY}"}
    answers = asked(
        models,
        lambda client: client.get("/v1/models"),
        lambda client: client.get("/v1/models", headers={"Authorization": "Bearer wrong"}),
        lambda client: client.get("/v1/models", headers={"Authorization": f"Basic {KEY}"}),
        lambda client: client.get("/metrics"),
        lambda client: client.get("/v1/models", headers=right),
        lambda client: client.get("/health"),
        key=KEY,
    )
    assert [answer.status_code for answer in answers] == [401, 401, 401, 401, 200, 200]
    assert {answer.json()["error"]["type"] for answer in answers[:4]} == {"authentication_error"}


def test_hosts_and_origins(models: ServedModels) -> None:
    """A name that is not the server's, and a page of another site, are refused; so is a form that looks harmless."""
    body = json.dumps(chat())
    json_type = {"Content-Type": "application/json"}

    def post(**headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return lambda client: client.post("/v1/chat/completions", content=body, headers={**json_type, **sent})

    answers = asked(
        models,
        post(Host="evil.example"),
        post(Host="127.0.0.1:8000@evil.example"),
        post(Origin="https://evil.example"),
        post(Sec_Fetch_Site="cross-site"),
        post(Content_Type="text/plain"),
        post(Origin="http://localhost:8000", Host="localhost:8000"),
        post(Host="captions.example"),
        hosts=("captions.example",),
    )
    assert [answer.status_code for answer in answers] == [421, 421, 403, 403, 415, 200, 200]


def test_other_machines_are_let_in_with_a_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host other than loopback needs RSCAP_API_KEY, or the word that everybody may."""
    monkeypatch.delenv("RSCAP_API_KEY", raising=False)
    with pytest.raises(ServingError, match="other machines could use this server"):
        ServeSettings.checked(host="0.0.0.0")
    assert ServeSettings.checked(host="0.0.0.0", no_key=True).key is None
    monkeypatch.setenv("RSCAP_API_KEY", KEY)
    assert ServeSettings.checked(host="0.0.0.0").key == KEY
    monkeypatch.setenv("RSCAP_API_KEY", "short")
    with pytest.raises(ServingError, match="too short"):
        ServeSettings.checked()


def test_every_answer_has_an_id_and_the_log_no_secrets(
    models: ServedModels, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's own id where it is one; the log holds route, status and time, and nothing of key, image or words."""
    monkeypatch.setattr(logging.getLogger("rscap.serving"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="rscap.serving"):
        good, strange = asked(
            models,
            lambda client: client.post(
                "/v1/chat/completions?token=hidden",
                json=chat(text="secret words"),
                headers={"X-Request-ID": "mine-1", "Authorization": f"Bearer {KEY}"},
            ),
            lambda client: client.get("/nothing", headers={"X-Request-ID": "no id\tat all"}),
            key=KEY,
        )
    assert good.headers["X-Request-ID"] == "mine-1"
    assert re.fullmatch("[0-9a-f]{32}", strange.headers["X-Request-ID"])
    told = [json.dumps(vars(record), default=str) for record in caplog.records]
    assert any('"mine-1"' in line and '"status": 200' in line and '"/v1/chat/completions"' in line for line in told)
    for secret in (KEY, "hidden", "secret words", "iVBOR"):
        assert not any(secret in line for line in told)


def test_limits_come_before_decoding(models: ServedModels) -> None:
    """A body, an image's pixels and a form's files beyond the limit are refused with the limit's name."""
    large = io.BytesIO()
    Image.new("1", (3_000, 3_000)).save(large, "PNG")  # 9 million pixels in a kilobyte
    body = chat()
    body["messages"][0]["content"][0]["image_url"]["url"] = data_uri(large.getvalue())
    answers = asked(
        models,
        lambda client: client.post("/v1/chat/completions", json=body),
        lambda client: client.post("/v1/chat/completions", content=b"x" * 300_000),
        lambda client: client.post("/v1/chat/completions", content=_slowly(b"x" * 100_000, 3)),
        lambda client: client.post("/caption", files=[("image", ("a.png", png()))] * 3),
        max_pixels=1_000_000,
        max_body=250_000,
        max_images=2,
    )
    assert [answer.status_code for answer in answers] == [400, 413, 413, 400]
    assert "3000 x 3000 pixels" in answers[0].json()["error"]["message"]


async def _slowly(part: bytes, times: int) -> AsyncIterator[bytes]:
    for _ in range(times):
        yield part


def test_health_readiness_and_numbers(models: ServedModels) -> None:
    """All three answer; the numbers name routes and never addresses or ids."""
    health, ready, numbers = asked(
        models,
        lambda client: client.get("/health"),
        lambda client: client.get("/ready"),
        lambda client: client.get("/metrics"),
    )
    assert health.json()["status"] == "ok"
    assert ready.json()["status"] == "ready"
    assert "rscap_waiting_captions 0.0" in numbers.text


def test_files_of_one_upload_come_back_line_by_line(models: ServedModels) -> None:
    """In their order, each with its name; a broken file has its error in its line, and alone it is a 400."""
    files = [("image", ("a.png", png(0))), ("image", ("broken.png", b"not an image")), ("image", ("c.png", png(2)))]
    form = {"model": "tuned", "max_new_tokens": "8"}
    several, broken, plain, wrong = asked(
        models,
        lambda client: client.post("/caption", files=files, data=form),
        lambda client: client.post("/caption", files=files[1:2]),
        lambda client: client.post("/caption?model=nano&max_new_tokens=8", content=png(1), headers=_png()),
        lambda client: client.post("/caption", files=files[:1], data={"temprature": "1"}),
    )
    rows = [json.loads(line) for line in several.text.splitlines()]
    assert [row["id"] for row in rows] == ["a.png", "broken.png", "c.png"]
    captioner = models["tuned"].captioner
    assert [row.get("caption") for row in rows] == [
        captioner.caption(png(0), max_new_tokens=8).caption,
        None,
        captioner.caption(png(2), max_new_tokens=8).caption,
    ]
    assert "not an image in a known format" in rows[1]["error"]["message"]
    assert rows[0]["rscap"]["run"] == "tuned"
    assert broken.status_code == 400
    assert json.loads(plain.text)["caption"] == models["nano"].captioner.caption(png(1), max_new_tokens=8).caption
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "temprature")


def _png() -> dict[str, str]:
    return {"Content-Type": "image/png"}


def test_the_page_comes_with_the_package(models: ServedModels) -> None:
    """Page, style, script and samples are served; the page names nothing outside of its server."""
    answers = asked(
        models,
        lambda client: client.get("/"),
        lambda client: client.get("/static/app.js"),
        lambda client: client.get("/static/style.css"),
        lambda client: client.get("/docs"),
        lambda client: client.get("/samples"),
        key="a-long-key",
    )
    assert [answer.status_code for answer in answers] == [200] * 5
    assert answers[0].headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in answers[0].headers["content-security-policy"]
    for answer in answers[:4]:
        assert not [word for word in ("https://", "//cdn", "@import") if word in answer.text]
    first = answers[4].json()["samples"][0]
    assert len(first["references"]) == 5
    (picture,) = asked(models, lambda client: client.get(f"/samples/{first['id']}"))
    assert picture.content.startswith(b"\x89PNG")
