"""A Hub that cannot be reached costs one short question and two lines, in place of half a minute of retries."""

from __future__ import annotations

import importlib
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest

from command_line import rscap
from rscap import hub
from rscap.hub import reach_hub, why_not_reached


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every question to the network, none of which is answered: `?` stands for the short one."""
    constants = importlib.import_module("huggingface_hub.constants")
    requests: list[str] = []

    def refused(host: object, *_: Any, **__: Any) -> NoReturn:
        requests.append(str(host))
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(hub, "_ask", lambda: requests.append("?") is not None)
    return requests


WORDS = {
    "a data set": (("data", "inspect", "owner/name"), "the Hub data set owner/name is not on this machine"),
    "a revision": (("data", "audit", "owner/name@v1"), "the Hub data set owner/name@v1 is not on this machine"),
    "a base": (("caption", "x.png", "--model", "owner/name"), "base model owner/name is not on this machine"),
    "a known base": (
        ("caption", "x.png", "--model", "google/paligemma-3b-pt-224"),
        "base model google/paligemma-3b-pt-224 is not on this machine",
    ),
}


@pytest.mark.torch
@pytest.mark.parametrize("kind", WORDS)
def test_a_hub_that_does_not_answer_is_asked_once(
    asked: list[str], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lines: what is missing and that the Hub cannot be reached; the hint names the network and the spelling."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    words, line = WORDS[kind]
    done = rscap(*words, cwd=tmp_path)
    assert done.code == 2
    first, hint = done.stderr.splitlines()
    assert first.startswith(f"error: {line}")
    assert first.endswith("and https://huggingface.co cannot be reached")
    assert hint.startswith("hint:  check the network and the spelling")
    assert asked == ["?"]


def test_the_clients_are_as_before_afterwards(asked: list[str]) -> None:
    """Inside the cache alone is looked into; afterwards the clients ask again, and a folder changes nothing."""
    constants = importlib.import_module("huggingface_hub.constants")
    with reach_hub(needed=False):
        assert not constants.is_offline_mode()
    assert asked == []
    for _ in range(2):
        with reach_hub():
            assert constants.is_offline_mode()
        assert not constants.is_offline_mode()
    assert asked == ["?"]
    assert why_not_reached() == "https://huggingface.co cannot be reached"


def test_a_hub_that_answers_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it answers; nor does one that nobody wants to ask."""
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with reach_hub():
        assert not constants.is_offline_mode()
    assert why_not_reached() == ""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with reach_hub():
        assert constants.is_offline_mode()
    assert "HF_HUB_OFFLINE is set" in why_not_reached()
