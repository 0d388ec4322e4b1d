"""The soak of the server: minutes of load, overload, clients that leave, and an end under load."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest

from checkout import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("soak")


def test_the_server_stands_five_minutes_of_load(soak: ModuleType) -> None:
    """32 clients: every request is answered with the caption that it has alone, and memory stays within 5 %. Too many
    at once are told to come again, and then there is room. 1,000 clients that leave leave nothing behind. SIGTERM under
    load: whoever was let in is answered."""
    found = soak.run(seconds=300, number=32, leavers=1_000, threads=max(1, (os.cpu_count() or 1) - 1))
    assert set(found["steady"]["statuses"]) == {"200"}
    assert found["steady"]["other_captions"] == 0
    assert found["steady"]["memory"]["off_the_median_percent"] <= 5
    assert set(found["overload"]["statuses"]) == {"200", "429"}
    assert found["overload"]["afterwards"] == {"200": 1}
    assert found["leavers"]["held_before_after"] == [0, 0]
    assert found["leavers"]["sockets_before_after"][1] <= found["leavers"]["sockets_before_after"][0]
    assert found["end"]["statuses"] == {"200": 32}
    assert found["end"]["exit_code"] == 0
    assert found["tracebacks_in_log"] == 0
