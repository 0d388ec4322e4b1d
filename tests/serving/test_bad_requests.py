"""Three hundred requests that are wrong: each gets a clear line, and the server goes on."""

from __future__ import annotations

import asyncio
import base64
import copy
import gzip
import io
import json
import logging
import socket
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

from rscap.serving.app import Server
from rscap.serving.models import ServedModels
from rscap.serving.scenes import available
from rscap.serving.settings import ServeSettings
from served import Live, chat, client_of, data_uri, png, running

KEY = "correct-horse-battery"
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Bad:
    """A request that must be refused."""

    name: str
    path: str = CHAT
    method: str = "POST"
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    files: Any = None
    data: Any = None
    key: str | None = KEY


def changed(*path: str | int, to: Any) -> bytes:
    """A good request with one value replaced."""
    body: Any = copy.deepcopy(chat())
    inner = body
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return json.dumps(body).encode()


def bodies() -> Iterator[Bad]:
    """JSON that is none, or deep, or of other types."""
    whole = json.dumps(chat()).encode()
    texts = [b"", b"{", b"[]", b"null", b"true", b"7", b'"text"', b"{}", b"\xff\xfe", b"\x00", b"{'model': 1}", b"NaN"]
    texts += [
        whole[:-1],
        whole + b"x",
        whole[1:],
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"model":"\\ud800"}',
        b"1e999999",
    ]
    texts += [whole[: len(whole) * part // 10] for part in range(1, 10)]
    texts += [b'{"model": "nano", "model": 3}', b"model=nano", b"--x\r\n\r\n", b"<xml/>", b"\xef\xbb\xbf{}"]
    for number, text in enumerate(texts):
        yield Bad(f"body {number}", content=text)
    wrong: list[Any] = [None, 3, -1, 1.5, True, "", "x", [], {}, [[]], {"a": 1}, "9" * 400]
    for value in wrong:
        if value is not None and value != []:
            yield Bad(f"messages = {value!r:.20}", content=changed("messages", to=value))
        for place in (("model",), ("messages", 0, "role"), ("messages", 0, "content")):
            if value != "":
                yield Bad(f"{place[-1]} = {value!r:.20}", content=changed(*place, to=value))
        yield Bad(f"url = {value!r:.20}", content=changed("messages", 0, "content", 0, "image_url", "url", to=value))
        yield Bad(f"image_url = {value!r:.20}", content=changed("messages", 0, "content", 0, "image_url", to=value))
        yield Bad(f"type = {value!r:.20}", content=changed("messages", 0, "content", 0, "type", to=value))
    numbers: list[Any] = ["1", [], {}, -1, 1e308, "NaN", 10**30]
    for name in ("temperature", "top_p", "n", "seed", "max_tokens", "logprobs", "stop", "stream", "stream_options"):
        for value in numbers:
            fits = (name in ("seed",) and value == -1) or (name == "stop" and isinstance(value, str | list))
            if not fits and not (name == "stream_options" and value == {}) and (name, value) != ("max_tokens", 10**30):
                yield Bad(f"{name} = {value!r:.20}", content=changed(name, to=value))
    for name in (
        "best_of",
        "echo",
        "suffix",
        "functions",
        "tool_choice",
        "audio",
        "logit_bias",
        "guided_json",
        "__proto__",
    ):
        yield Bad(name, content=changed(name, to={"x": 1}))
    for name in ("beams", "top_k", "no_repeat_ngram", "repetition_penalty", "max_new_tokens", "temperature"):
        for value in ("x", -5, [1], None.__class__.__name__):
            yield Bad(f"rscap.{name} = {value!r}", content=changed("rscap", to={name: value}))
    yield Bad("model of another", content=changed("model", to="../../etc/passwd"))
    yield Bad("system message", content=changed("messages", 0, "role", to="system"))
    yield Bad("long prompt", content=json.dumps(chat(text="a " * 5_000)).encode())
    yield Bad("special token", content=json.dumps(chat(text="say <eos> now")).encode())
    yield Bad("image token", content=json.dumps(chat(text="<image><image>")).encode())
    yield Bad("many messages", content=changed("messages", to=chat()["messages"] * 40))
    yield Bad("two images", content=changed("messages", 0, "content", to=chat()["messages"][0]["content"] * 2))


def images() -> Iterator[Bad]:
    """Images that are none, bombs, broken, of other formats."""
    good = png()
    jpeg, bits = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64)).save(jpeg, "JPEG")
    Image.new("1", (30_000, 30_000)).save(bits, "PNG")
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    huge = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    vrt = b'<VRTDataset rasterXSize="9" rasterYSize="9"><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>'
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    contents = [b"", b"x", good[:20], good[: len(good) // 2], jpeg.getvalue()[:100], bits.getvalue(), huge, vrt, svg]
    contents += [
        b"GIF89a",
        b"II*\0",
        b"MM\0*",
        b"RIFF\0\0\0\0WEBP",
        b"BM",
        b"%!PS-Adobe",
        b"%PDF-1.7",
        b"PK\3\4",
        b"\x1f\x8b\x08",
    ]
    contents += [b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(64), good[:8] + bytes(200), good[:33] + b"\xff" * 100]
    for number, content in enumerate(contents):
        yield Bad(
            f"image {number}", content=changed("messages", 0, "content", 0, "image_url", "url", to=data_uri(content))
        )
        yield Bad(f"file {number}", "/caption", headers={}, files=[("image", (f"{number}.png", content))])
        yield Bad(f"bare {number}", "/caption", headers={"Content-Type": "image/png"}, content=content)
    encoded = base64.b64encode(good).decode()
    addresses = [
        *(f"data:image/png;base64,{encoded[:-3]}!", f"data:image/png,{encoded}", f"data:text/html;base64,{encoded}"),
        *("data:", "data:,", "data:image/png;base64", f"data:;base64,{encoded}", "data:image/png;base64,ä"),
        *("http://127.0.0.1/", "http://169.254.169.254/latest/meta-data", "http://[::1]/", "file:///etc/passwd"),
        *(
            "https://10.0.0.1/a.png",
            "http://localhost:22/",
            "ftp://93.184.216.34/",
            "/etc/passwd",
            "../../secret",
            "\\\\host\\x",
        ),
        *(
            "http://127.0.0.1.nip.io:8080/",
            "http://0/",
            "gopher://x/",
            "javascript:alert(1)",
            "http://a\r\nHost: b/",
            "//x/y",
        ),
    ]
    for url in addresses:
        yield Bad(f"address {url[:24]}", content=changed("messages", 0, "content", 0, "image_url", "url", to=url))


def envelopes() -> Iterator[Bad]:
    """Keys, hosts, origins, types, paths, forms."""
    good = json.dumps(chat()).encode()
    for key in (None, "", "wrong", KEY[:-1], f"{KEY}x", KEY.upper(), f" {KEY} {KEY}", "x" * 9_000):
        yield Bad(f"key {key!r:.20}", content=good, key=key)
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil",
        "",
        "a b",
        "[::1",
        "127.0.0.1:x",
        "x" * 300,
    ):
        yield Bad(f"host {host!r:.20}", content=good, headers={"Content-Type": "application/json", "Host": host})
    for origin in ("https://evil.example", "null", "file://", "http://[", "http://127.0.0.1:9999"):
        yield Bad(f"origin {origin}", content=good, headers={"Content-Type": "application/json", "Origin": origin})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "image/png", "x" * 500):
        yield Bad(f"type {kind!r:.20}", content=good, headers={"Content-Type": kind})
    for path in (
        "/../../etc/passwd",
        "/static/../../pyproject.toml",
        "/static/%2e%2e/%2e%2e/x",
        "//etc/passwd",
        "/%00",
        "/v1",
    ):
        yield Bad(f"path {path}", path, "GET", headers={})
    for path in (
        "/v1/models/../../x",
        "/v1/models/%2e%2e",
        "/v1/models/gpt-4",
        "/static/",
        "/.git/config",
        "/admin",
        "/samples/x",
    ):
        yield Bad(f"path {path}", path, "GET", headers={})
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"):
        yield Bad(f"method {method}", CHAT, method, content=b"", headers={})
    for value in ("x", "-1", "0", "nan", "1e-999", "9" * 50 + "x"):
        headers = {"Content-Type": "application/json", "X-Deadline": value}
        yield Bad(f"deadline {value[:9]}", content=good, headers=headers)
    yield Bad("huge body", content=b"x" * 2_000_000)
    yield Bad("huge upload", "/caption", headers={}, files=[("image", ("a.png", bytes(2_000_000)))])
    kind = "multipart/form-data; boundary=b"
    for number, content in enumerate(
        (b"", b"--b--\r\n", b"--b\r\n", b"--c\r\n\r\nx\r\n--c--", b"--b\r\nContent-Disposition: form-data")
    ):
        yield Bad(f"form {number}", "/caption", content=content, headers={"Content-Type": kind})
    picture = [("image", ("a.png", png()))]
    for name, value in (
        ("model", "other"),
        ("beams", "x"),
        ("beams", "99"),
        ("top_p", "0.5"),
        ("temperature", "-1"),
        ("x", "y"),
    ):
        yield Bad(f"field {name} = {value}", "/caption", headers={}, files=picture, data={name: value})
    yield Bad("many files", "/caption", headers={}, files=picture * 9)
    yield Bad("file elsewhere", "/caption", headers={}, files=[("picture", ("a.png", png()))])
    yield Bad("no file", "/caption", headers={}, files=[("image", (None, "text"))])
    yield Bad("many fields", "/caption", headers={}, files=picture, data={f"f{number}": "1" for number in range(40)})
    yield Bad("long field", "/caption", headers={}, files=picture, data={"prompt": "x" * 30_000})


def further() -> Iterator[Bad]:
    """Values at the edge of what a number is, images that unpack to far more than they hold, scenes, odd forms."""
    parts: list[Any] = [
        {"type": "input_text", "text": "x"},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "file", "file": {"file_id": "x"}},
        {"type": "text"},
        {"type": "text", "text": None},
        "text",
        {"type": "image_url", "image_url": {"url": data_uri(png()), "detail": "ultra"}},
        {"type": "image_url", "image_url": {"url": [data_uri(png())]}},
    ]
    for number, part in enumerate(parts):
        yield Bad(f"part {number}", content=changed("messages", 0, "content", to=[part]))
    edges: list[tuple[str, Any]] = [
        *(("n", 0), ("n", 9), ("n", True), ("n", 2), ("max_tokens", 0), ("temperature", 2.1), ("top_p", 0)),
        *(("top_p", 1.1), ("top_p", 0.5), ("seed", 2**63), ("seed", 1.5), ("stop", ["a"] * 5), ("stop", [1])),
        *(("stream", "yes"), ("stream_options", {"x": 1}), ("top_logprobs", 5), ("tools", [{"type": "function"}])),
        *(("response_format", {"type": "json_object"}), ("model", ""), ("model", "nano\0"), ("model", "x" * 100_000)),
        *(("temperature", True), ("modalities", ["audio"]), ("reasoning_effort", "high"), ("n", 10**4_200)),
    ]
    for name, value in edges:
        yield Bad(f"{name} = {value!r:.20}", content=changed(name, to=value))
    own: list[dict[str, Any]] = [
        *({"beams": 9}, {"beams": 2.5}, {"beams": True}, {"beams": 10**4_200}, {"batch_size": 1}, {"logits": "model"}),
        *({"choose": "x"}, {"similarity": "x"}, {"choose": "consensus", "samples": 33}, {"samples": 10**30}),
        *({"repetition_penalty": 0}, {"repetition_penalty": -1}, {"no_repeat_ngram": -1}, {"length_penalty": "1"}),
        *(
            {"temperature": 1, "beams": 2},
            {"temperature": -0.1},
            {"top_k": 1.5},
            {"seed": "7"},
            {"": 1},
            {"a" * 999: 1},
        ),
    ]
    for changes in own:
        yield Bad(f"rscap = {changes!r:.30}", content=changed("rscap", to=changes))
    raw = json.dumps(chat())[:-1]
    for more in (
        '"seed": ' + "1" * 5_000,
        '"rscap": {"beams": ' + "1" * 5_000 + "}",
        '"rscap": {"length_penalty": 1e999}',
    ):
        yield Bad(f"raw {more[:24]}", content=f"{raw}, {more}}}".encode())
    yield Bad("UTF-16", content=json.dumps(chat()).encode("utf-16"))
    yield Bad("thousand keys", content=json.dumps({**chat(), **{f"k{number}": 1 for number in range(1_000)}}).encode())
    zipped = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    yield Bad("gzip", content=gzip.compress(json.dumps(chat()).encode()), headers=zipped)
    yield from (_image(name, content) for name, content in _unpacking())
    for query in (
        "beams=99",
        "x=y",
        "model=other",
        f"prompt={'x' * 2_000}",
        "temperature=nan",
        "max_new_tokens=1e9",
        "beams=²",
    ):
        yield Bad(f"query {query[:20]}", f"/caption?{query}", headers={"Content-Type": "image/png"}, content=png())
    yield Bad("SVG", "/caption", headers={"Content-Type": "image/svg+xml"}, content=b"<svg/>")
    yield Bad("no image", "/caption", headers={"Content-Type": "image/png"}, content=b"")
    for number, kind in enumerate(
        ("multipart/form-data", f"multipart/form-data; boundary={'b' * 5_000}", "multipart/mixed; boundary=b")
    ):
        yield Bad(f"boundary {number}", "/caption", headers={"Content-Type": kind}, content=b"--b\r\n\r\nx\r\n--b--")
    yield Bad("path as name", "/caption", headers={}, files=[("image", ("../../etc/passwd", b"x"))])
    for key in ("Basic abc", "Bearer", f"bearer\t{KEY}x"):
        headers = {"Content-Type": "application/json", "Authorization": key}
        yield Bad(f"authorization {key:.12}", content=json.dumps(chat()).encode(), headers=headers, key=None)


def _image(name: str, content: bytes) -> Bad:
    return Bad(f"image: {name}", "/caption", headers={"Content-Type": "image/png"}, content=content)


def _unpacking() -> Iterator[tuple[str, bytes]]:
    """PNG files with a chunk that is larger than it looks, or broken; other files of many pixels."""
    good = png()
    flood = zlib.compress(bytes(50_000_000), 9)
    for kind, data in ((b"zTXt", b"a\0\0" + flood), (b"iCCP", b"a\0\0" + flood)):
        chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        yield kind.decode(), good[:33] + chunk + good[33:60]
    for name, mode, suffix in (("I;16", "I;16", "PNG"), ("wide", "L", "GIF")):
        stream = io.BytesIO()
        Image.new(mode, (8, 8) if name != "wide" else (6_000, 6_000)).save(stream, suffix)
        yield name, stream.getvalue()
    for suffix in ("ICO", "PPM", "TGA", "PCX", "JPEG2000", "WEBP", "TIFF", "BMP"):
        stream = io.BytesIO()
        Image.new("RGB", (32, 32)).save(stream, suffix)
        yield f"half of a {suffix}", stream.getvalue()[: len(stream.getvalue()) // 2]


def scenes() -> Iterator[Bad]:
    """Scenes that are none, and options that are none."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 9)).save(stream, "TIFF")
    tiff = stream.getvalue()
    wide = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(wide, "TIFF", compression="group4")
    loop = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8)
    vrt = b'<VRTDataset rasterXSize="9" rasterYSize="9"><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>'
    contents = (
        b"",
        vrt,
        png(),
        tiff[:8],
        tiff[: len(tiff) // 2],
        loop,
        wide.getvalue(),
        b"II+\0\x08\0\0\0" + b"\xff" * 64,
    )
    for number, content in enumerate(contents):
        yield Bad(f"scene {number}", "/scene", headers={}, files=[("scene", ("a.tif", content))])
    for name, value in (
        *(("window", "0"), ("window", "x"), ("window", "9" * 400), ("stride", "-1"), ("gsd", "nan"), ("gsd", "inf")),
        *(("min_valid", "2"), ("crs", "EPSG:0"), ("crs", "EPSG:999999"), ("crs", "+proj=x"), ("bands", "99")),
        *(("bands", "red"), ("bands", ",,"), ("model", "other"), ("out", "/etc/passwd"), ("window", "1e3")),
    ):
        field = {name: value}
        yield Bad(f"scene {name} = {value:.9}", "/scene", headers={}, files=[("scene", ("a.tif", tiff))], data=field)
    yield Bad("two scenes", "/scene", headers={}, files=[("scene", ("a.tif", tiff))] * 2)
    yield Bad("scene as text", "/scene", headers={}, files=[("scene", (None, "x"))])
    yield Bad("scene elsewhere", "/scene", headers={}, files=[("image", ("a.tif", tiff))])
    for method in ("GET", "DELETE"):
        yield Bad(f"{method} a scene that is not there", "/scene/0", method, headers={})
    yield Bad("a scene's address", "/scene/x", "POST", content=b"")


ALL = [*bodies(), *images(), *envelopes(), *further(), *(scenes() if available() else ())]


def test_each_is_told_what_is_wrong(
    models: ServedModels, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a 4xx with one line in OpenAI's shape; no traceback, no key and no file of the machine is in answer or
    log, and a good request is captioned afterwards."""
    assert len(ALL) >= 300
    monkeypatch.setattr(logging.getLogger("rscap.serving"), "propagate", True)

    async def ask(client: Any, bad: Bad) -> tuple[Bad, int, str, str]:
        headers = dict(bad.headers)
        if bad.key is not None:
            headers["Authorization"] = f"Bearer {bad.key}"
        sent = {"content": bad.content} if bad.files is None else {"files": bad.files, "data": bad.data}
        answer = await client.request(bad.method, bad.path, headers=headers, **sent)
        kind = answer.headers.get("content-type", "")
        return bad, answer.status_code, answer.text, kind

    async def work() -> tuple[list[tuple[Bad, int, str, str]], int]:
        limits = ServeSettings(key=KEY, max_body=1_000_000, max_images=4, remote_images=True)
        server = Server(models, limits)
        async with running(server), client_of(server) as client:
            found = [await ask(client, bad) for bad in ALL]
            good = await client.post(CHAT, json=chat(), headers={"Authorization": f"Bearer {KEY}"})
        assert server.scheduler.held == 0
        return found, good.status_code

    with caplog.at_level(logging.INFO):
        found, good = asyncio.run(work())
    assert [(bad.name, status, text[:200]) for bad, status, text, _ in found if not 400 <= status < 500] == []
    for bad, _, text, kind in found:
        assert kind == "application/json", bad.name
        error = json.loads(text)["error"]
        assert error["message"], bad.name
        assert len(error["message"].splitlines()) == 1, bad.name
        assert len(error["message"]) <= 300, bad.name
        assert set(error) == {"message", "type", "param", "code"}, bad.name
        for secret in ("Traceback", "/rscap/", "root:", KEY):
            assert secret not in text, bad.name
    told = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert KEY not in told
    assert "Traceback" not in told
    assert good == 200


RAW = [
    b"\x00\x01\x02\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Header: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX Header: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Header: " + b"a" * 200_000,
    b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /caption HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n",
]


@pytest.mark.parametrize("sent", RAW, ids=range(len(RAW)))
def test_what_is_not_http_is_refused(live: Live, sent: bytes) -> None:
    """Broken heads, lengths and headers, over a socket: an answer of 4xx in one line, and the server goes on."""
    with socket.create_connection(("127.0.0.1", live.port), timeout=10) as connection:
        connection.sendall(sent)
        first = connection.recv(65_536).split(b"\r\n")[0]
    assert first.startswith(b"HTTP/1.1 4"), first


def test_slow_clients_do_not_stay(models: ServedModels) -> None:
    """A head that never ends is dropped; a body that never ends is a 408."""
    with Live(models, header_seconds=0.3, body_seconds=0.3) as server:
        head = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        head.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow")
        body = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        body.sendall(b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nslow")
        with head, body:
            assert head.recv(100) == b""
            assert body.recv(65_536).startswith(b"HTTP/1.1 408")
