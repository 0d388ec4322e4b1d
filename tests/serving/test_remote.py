"""rscap asks rscap: a served model is captioned with and scored as one that is loaded here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import rscap
from rscap.sample import sample_examples
from rscap.serving.models import ServedModels
from served import Live, png


def test_captions_of_a_server_are_those_of_the_command(live: Live, models: ServedModels, tmp_path: Path) -> None:
    """`rscap caption --server` prints what the captioner says, line by line; a broken file is told, exit code 1."""
    names = [f"{number}.png" for number in range(4)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(png(number))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    words = ("--server", live.url, "--served-model", "tuned", "--set", "generate.max_new_tokens=8")
    done = rscap("caption", *names, "broken.png", *words, cwd=tmp_path)
    captions = models["tuned"].captioner.caption([tmp_path / name for name in names], max_new_tokens=8)
    assert done.stdout.splitlines() == [f"{name}\t{one.caption}" for name, one in zip(names, captions, strict=True)]
    assert done.code == 1
    assert "broken.png: not an image" in done.stderr
    beams = rscap("caption", names[0], *words, "--set", "generate.beams=2", "--json", cwd=tmp_path)
    assert json.loads(beams.stdout)["caption"] == (
        models["tuned"].captioner.caption(tmp_path / names[0], max_new_tokens=8, beams=2).caption
    )


def test_a_served_model_is_scored_as_a_loaded_one(live: Live, models: ServedModels, tmp_path: Path) -> None:
    """The same captions and corpus scores; the signature names model, decoding and prompt; a second command finds the
    place taken."""
    words = ("evaluate", "--server", live.url, "--served-model", "nano", "--source", "sample", "--limit", "8")
    more = ("--no-baselines", "--set", "generate.max_new_tokens=8", "--out", "there")
    assert rscap(*words, *more, cwd=tmp_path).code == 0
    rows = [json.loads(line) for line in (tmp_path / "there/predictions/test.jsonl").read_text().splitlines()]
    scenes = {scene.id: scene for scene in sample_examples()}
    alone = models["nano"].captioner.caption([scenes[row["id"]] for row in rows], max_new_tokens=8)
    assert [row["caption"] for row in rows] == [one.caption for one in alone]
    sheet = json.loads((tmp_path / "there/scores/test.json").read_text())
    digest = models["nano"].digest or ""
    assert f"decode:served-rscap-{digest[:12]}-greedy-8-prompt-" in sheet["signature"]
    facts = json.loads((tmp_path / "there/provenance.json").read_text())["remote"]
    assert (facts["server"], facts["model"], facts["prompt"]) == (f"{live.url}/v1", "nano", "caption en")
    again = rscap(*words, *more, cwd=tmp_path)
    assert again.code == 2
    assert "there" in again.stderr


def test_a_model_is_named_once(tmp_path: Path) -> None:
    """Neither a model nor a server, or both: one clear line."""
    for words in ((), ("--model", "nano", "--server", "http://127.0.0.1:1")):
        done = rscap("caption", "a.png", *words, cwd=tmp_path)
        assert done.code == 2
        assert "--server URL" in done.stderr


def test_an_evaluation_by_a_server_goes_on_where_it_stopped(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after some captions, the same command asks for the others alone and ends with the same file."""
    from rscap.captioner.remote import RemoteCaptioner, RemoteError

    words = ("evaluate", "--server", live.url, "--served-model", "nano", "--source", "sample", "--limit", "6")
    more = ("--no-baselines", "--set", "generate.max_new_tokens=4", "--concurrency", "1")
    assert rscap(*words, *more, "--out", "whole", cwd=tmp_path).code == 0
    asked: list[str] = []
    ask = RemoteCaptioner._asked

    def counted(self, picture, say):  # type: ignore[no-untyped-def]
        asked.append(picture.id)
        if len(asked) == 4:
            raise RemoteError("gone")
        return ask(self, picture, say)

    monkeypatch.setattr(RemoteCaptioner, "_asked", counted)
    assert rscap(*words, *more, "--out", "cut", cwd=tmp_path).code == 2
    before = len(asked)
    done = rscap(*words, *more, "--out", "cut", cwd=tmp_path)
    assert done.code == 0
    assert "resuming after" in done.stderr
    assert len(asked) - before < 6
    files = [tmp_path / name / "predictions/test.jsonl" for name in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()
