"""Fixtures and options shared by all tests."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NoReturn

import pytest

from checkout import shared

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one test process a core, and one thread of torch a process

TESTS = Path(__file__).parent
WITHOUT_TORCH = (
    *("annotations", "baselines", "data", "quality", "recipe", "reports", "sample", "scoring", "store", "verifying"),
)
"""Folders of tests that work where torch is not installed, but for those marked `torch`."""

LARGE = 16
"""GiB of memory below which PaliGemma-3B is not tried: a training step takes about 12 (tests/model/test_large.py)."""


class _WithoutTorch(MetaPathFinder, Loader):
    """Finds torch before anybody else does, and fails to load it; libraries that only ask whether it is there go on."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == "torch" else None

    def create_module(self, spec: ModuleSpec) -> NoReturn:
        raise ModuleNotFoundError("a test that runs without torch imports it; mark it `torch`", name=spec.name)

    def exec_module(self, module: object) -> None:
        """Never called: there is no module."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-torch", action="store_true", help="only tests that need no torch; importing it fails")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-torch"):
        sys.meta_path.insert(0, _WithoutTorch())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("--without-torch") or TESTS not in collection_path.parents:
        return None
    return collection_path.relative_to(TESTS).parts[0] not in WITHOUT_TORCH or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--without-torch"):
        items[:] = [item for item in items if not item.get_closest_marker("torch")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test skips, and says so, where the machine lacks what its marker stands for."""
    if item.get_closest_marker("java") and not shutil.which("java"):
        pytest.skip("java is not on the PATH")
    if item.get_closest_marker("large") and (gib := _memory() / 2**30) < LARGE:
        pytest.skip(f"needs {LARGE} GiB of memory; {gib:.0f} GiB are installed")


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.fixture(autouse=True)
def no_question_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the Hub answers is asked by no test: what they load from it is planted, or a client that fails."""
    monkeypatch.setattr("rscap.hub._known", None)
    monkeypatch.setattr("rscap.hub._ask", lambda: True)


@pytest.fixture(scope="session", autouse=True)
def wide_screen() -> Iterator[None]:
    """A screen on which a message is one line; tests of what a narrow one shows set COLUMNS themselves."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "400"
    yield
    del os.environ["COLUMNS"]
    if before is not None:
        os.environ["COLUMNS"] = before


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, captions and golden scores, `data` in the shared folder, or RSCAP_REAL_DATA."""
    if "RSCAP_REAL_DATA" not in os.environ:
        return shared("data")
    if not (folder := Path(os.environ["RSCAP_REAL_DATA"])).is_dir():
        pytest.skip(f"{folder}, which RSCAP_REAL_DATA names, does not exist")
    return folder


@pytest.fixture(scope="session")
def nano2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nano's Gemma 2 twin: random weights, nano's processor, a sliding window of 40."""
    return with_random_weights("nano2", tmp_path_factory.mktemp("base") / "nano2")


@pytest.fixture(scope="session")
def smolnano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SmolVLM2 in miniature, in the format of its checkpoints: random weights, and noise on them."""
    from smolnano import write_smolnano

    return write_smolnano(tmp_path_factory.mktemp("base") / "smolnano", noise=0.05)


@pytest.fixture(scope="session")
def untrained_nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nano as it was before it learned: every token is as likely to it."""
    return with_random_weights("nano", tmp_path_factory.mktemp("base") / "untrained")


def with_random_weights(geometry: str, folder: Path) -> Path:
    """The same weights on every call, and nano's processor."""
    import torch
    from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

    from rscap.model.families.paligemma import paligemma_config
    from rscap.model.load import NANO

    processor = PaliGemmaProcessor.from_pretrained(NANO)
    config = paligemma_config(geometry, vocabulary=len(processor.tokenizer), image_token_id=processor.image_token_id)
    torch.manual_seed(0)
    PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without a window; closed after each file, since an event loop runs in this thread meanwhile."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not on the PATH (on Debian: apt-get install chromium)")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
