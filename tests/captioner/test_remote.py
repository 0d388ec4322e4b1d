"""Models behind servers of other programs are asked patiently, and in a way that anybody can name."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from rscap.captioner.remote import PROMPT, RemoteCaptioner, RemoteError
from rscap.data import opened
from rscap.errors import RecipeError
from rscap.records import Picture, Prediction, Rejected
from rscap.sample import sample_examples


def said(text: str | None, reason: str = "stop") -> httpx.Response:
    """An answer of an OpenAI-compatible server."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return httpx.Response(200, json={"choices": [choice], "usage": {"completion_tokens": 4}})


class Theirs:
    """A server of another program: it lists models, and gives prepared answers; it keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception, models: tuple[str, ...] = ("llava",)) -> None:
        self.answers, self.models, self.asked, self.waits = list(answers), models, list[dict[str, Any]](), list[float]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": name, "object": "model"} for name in self.models]})
        self.asked.append(json.loads(request.content))
        answer = self.answers.pop(0) if self.answers else said("a plane")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def connect(self, **more: Any) -> RemoteCaptioner:
        """A captioner that asks this server one request at a time."""
        transport = httpx.MockTransport(self)
        options = {"transport": transport, "sleep": self.waits.append, "concurrency": 1, **more}
        return RemoteCaptioner.connect("http://there:8000", **options)


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    """A JPEG file."""
    path = tmp_path / "scene.jpg"
    Image.new("RGB", (20, 10), "green").save(path)
    return Picture(id="scene", image=opened(path))


def test_the_bytes_of_a_file_are_sent_as_they_are(picture: Picture) -> None:
    """With the kind that their header tells, the prompt and the parameters; a drawn image goes as PNG."""
    server = Theirs()
    captioner = server.connect(changes=["generate.max_new_tokens=20"])
    (found,) = captioner.predictions([picture])
    assert found == Prediction(example_id="scene", caption="a plane", prefix=PROMPT, tokens=4, stopped="eos")
    body = server.asked[0]
    image, text = body["messages"][0]["content"]
    head, _, content = image["image_url"]["url"].partition(",")
    assert (head, base64.b64decode(content)) == ("data:image/jpeg;base64", picture.image.data())
    assert text["text"] == PROMPT
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("llava", 20, 0.0)
    drawn = sample_examples()[0]
    list(captioner.predictions([drawn]))
    assert server.asked[1]["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_what_passes_is_waited_for(picture: Picture) -> None:
    """Busy (as long as it says), broken for a while, unreachable: the caption comes in the end."""
    server = Theirs(
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(503),
        httpx.ConnectError("refused"),
        said("ok"),
    )
    (found,) = server.connect().predictions([picture])
    assert isinstance(found, Prediction)
    assert found.caption == "ok"
    assert 7 <= server.waits[0] <= 8.4
    assert server.waits[1] < server.waits[2]


def test_a_server_that_keeps_failing_is_given_up(picture: Picture) -> None:
    """With what it said, and how often."""
    server = Theirs(*[httpx.Response(500)] * 9)
    with pytest.raises(RemoteError, match=r"http://there:8000/v1: status 500, 6 times"):
        list(server.connect().predictions([picture]))


def test_an_image_that_is_refused_takes_no_other_with_it(picture: Picture, tmp_path: Path) -> None:
    """The server's words stand in its place; so does a file that is no image, which is not sent."""
    (tmp_path / "broken.png").write_bytes(b"nothing")
    broken = Picture(id="broken", image=opened(tmp_path / "broken.png"))
    server = Theirs(
        httpx.Response(400, json={"error": {"message": "too small"}}), said(None, "content_filter"), said("ok")
    )
    found = list(server.connect().predictions([picture, broken, picture, picture]))
    assert [type(item) for item in found] == [Rejected, Rejected, Rejected, Prediction]
    assert found[0] == Rejected("scene", "the server refuses it: too small")
    assert "content_filter" in found[2].reason  # type: ignore[union-attr]
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (httpx.Response(401, json={"error": {"message": "no key"}}), "asks for a key: no key"),
        (httpx.Response(404, json={"error": "no such model"}), "status 404: no such model"),
        (httpx.Response(200, text="<html>"), "not with a chat completion"),
        (httpx.Response(200, json={"choices": []}), "not with a chat completion"),
        (httpx.Response(200, content=b'{"choices": [{"mess'), "not with a chat completion"),
        (httpx.Response(200, content=b"[" * 100_000), "not with a chat completion"),
        (httpx.Response(200, json={"choices": [None]}), "not with a chat completion"),
        (
            httpx.Response(
                200, content=b'{"choices": [{"message": {"content": "a"}}], "usage": {"completion_tokens": 1e999}}'
            ),
            "not with a chat completion",
        ),
        (
            httpx.Response(200, json={"choices": [{"message": {"content": "a"}}], "rscap": "b"}),
            "not with a chat completion",
        ),
    ],
)
def test_other_answers_end_the_work(picture: Picture, answer: httpx.Response, told: str) -> None:
    """They would be the same for every image."""
    with pytest.raises(RemoteError, match=told):
        list(Theirs(answer).connect().predictions([picture]))


def test_half_a_letter_is_no_harm(picture: Picture) -> None:
    """JSON can spell one half of a surrogate pair, which no file can hold: it becomes a question mark."""
    answer = httpx.Response(200, content=b'{"choices": [{"message": {"content": "a \\ud83d plane"}}]}')
    (found,) = Theirs(answer).connect().predictions([picture])
    assert isinstance(found, Prediction)
    assert found.caption == "a ? plane"


@pytest.mark.parametrize("own", [{"decode": {"beams": "many"}}, {"decode": [1]}])
def test_a_list_of_models_with_other_settings_is_refused(own: dict[str, Any]) -> None:
    """What a server says of a model's decoding must be settings that there are."""
    listed = httpx.Response(200, json={"data": [{"id": "a", "rscap": own}]})
    with pytest.raises(RemoteError, match="lists decode settings"):
        RemoteCaptioner.connect("http://there:8000", transport=httpx.MockTransport(lambda _: listed))


def test_a_key_that_no_header_can_hold_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named, and the key is not."""
    monkeypatch.setenv("RSCAP_API_KEY", "schl\u00fcssel")
    with pytest.raises(RemoteError, match="RSCAP_API_KEY") as caught:
        Theirs().connect()
    assert "schl" not in str(caught.value)


def test_models_are_named(picture: Picture) -> None:
    """One is taken; of several, or where the name is another, those that there are stand in the error."""
    assert Theirs().connect().name == "llava"
    for name in (None, "gpt"):
        with pytest.raises(RemoteError, match="serves") as caught:
            Theirs(models=("a", "b")).connect(model=name)
        assert "a, b" in str(caught.value.hint)
    with pytest.raises(RemoteError, match="is no address"):
        RemoteCaptioner.connect("there:8000")


def test_settings_without_a_word_are_refused() -> None:
    """OpenAI's API knows no beams; draws it knows."""
    with pytest.raises(RecipeError, match=r"generate\.beams cannot be asked"):
        Theirs().connect(changes=["generate.beams=3"])
    changes = ["generate.temperature=0.5", "generate.top_p=0.9", "generate.seed=3"]
    drawn = Theirs().connect(changes=changes)
    assert drawn.parameters() == {"max_tokens": 64, "temperature": 0.5, "top_p": 0.9, "seed": 3}


def test_requests_keep_a_pace(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    """At sixty a minute each begins a second after the one before, whatever the answers take."""
    monkeypatch.setattr("rscap.captioner.remote.time.monotonic", lambda: 100.0)
    server = Theirs()
    list(server.connect(per_minute=60).predictions([picture] * 3))
    assert server.waits == pytest.approx([1.0, 2.0])


def test_captions_come_in_order_however_they_are_answered(picture: Picture) -> None:
    """Many at a time, and the second request is answered first."""
    import threading

    second = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m"}]})
        size = len(request.content)
        if size == smallest:
            second.wait(10)
        else:
            second.set()
        return said(str(size))

    other = sample_examples()[1]
    smallest = 0
    sizes = RemoteCaptioner.connect("http://there", transport=httpx.MockTransport(answer)).predictions([picture])
    smallest = int(next(sizes).caption)  # type: ignore[union-attr]
    second.clear()
    captioner = RemoteCaptioner.connect("http://there", transport=httpx.MockTransport(answer))
    found = [item.example_id for item in captioner.predictions([picture, other]) if isinstance(item, Prediction)]
    assert found == ["scene", other.id]


def test_asking_a_server_needs_no_torch() -> None:
    """A laptop without torch can ask."""
    code = "import sys, rscap.captioner.remote; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
