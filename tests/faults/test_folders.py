"""Somebody's folder is never believed: no code of it runs, no link leads out of it, nothing in it holds a reader up."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import rscap
from rscap.errors import RscapError
from rscap.store import RunFolder, check_model_folder, plain_path
from rscap.store.adapter import AdapterConfig, check_expressions, read_adapter_config

Plant = Callable[[Path], None]


def link(name: str, target: str = "../secret.txt") -> Plant:
    def plant(run: Path) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(run / target, path.parent))

    return plant


def pipe(name: str) -> Plant:
    def plant(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return plant


def endless(name: str) -> Plant:
    """A link to a file of one byte more than is read whole, without taking the room."""

    def plant(run: Path) -> None:
        with (run / name).open("wb") as stream:
            stream.truncate(2**29 + 1)

    return plant


OUT = "is a link that leads out of"
REPORT, DOCTOR = ("report", "run", "--split", "val"), ("doctor", "run", "--no-probe")
COMPARE = ("compare", "a=run", "b=run/baselines/nearest/scores/val.json", "--split", "val", "--draws", "100")
READ: dict[str, tuple[Plant, tuple[str, ...], str]] = {
    "recipe-link": (link("recipe.toml"), REPORT, OUT),
    "provenance-link": (link("provenance.json"), REPORT, OUT),
    "status-link": (link("status.json"), DOCTOR, OUT),
    "train-log-link": (link("train.jsonl"), DOCTOR, OUT),
    "predictions-link": (link("predictions", ".."), REPORT, OUT),
    "scores-link": (link("scores", ".."), COMPARE, OUT),
    "sheet-link": (link("scores/val.json"), COMPARE, OUT),
    "adapter-link": (link("adapter", ".."), DOCTOR, OUT),
    "config-link": (link("adapter/adapter_config.json"), DOCTOR, OUT),
    "weights-link": (link("adapter/adapter_model.safetensors"), DOCTOR, OUT),
    "panel-link": (link("panel", ".."), REPORT, OUT),
    "thumbnails-link": (link("thumbnails", ".."), REPORT, OUT),
    "baselines-link": (link("baselines", ".."), REPORT, OUT),
    "loop": (link("recipe.toml", "recipe.toml"), REPORT, "cannot be followed"),
    "recipe-pipe": (pipe("recipe.toml"), REPORT, "is a pipe (FIFO), not a file"),
    "provenance-pipe": (pipe("provenance.json"), REPORT, "is a pipe (FIFO), not a file"),
    "status-pipe": (pipe("status.json"), DOCTOR, "is a pipe (FIFO), not a file"),
    "train-log-pipe": (pipe("train.jsonl"), DOCTOR, "is a pipe (FIFO), not a file"),
    "sheet-pipe": (pipe("scores/val.json"), COMPARE, "is a pipe (FIFO), not a file"),
    "log-too-large": (endless("train.jsonl"), DOCTOR, "at most 536,870,912 are read"),
    "provenance-too-large": (endless("provenance.json"), REPORT, "at most 536,870,912 are read"),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", READ)
def test_a_reader_takes_plain_files_of_the_folder_alone(place: Path, name: str) -> None:
    """A link out of the folder, a pipe or an endless file is named; what lies elsewhere is not told."""
    plant, words, line = READ[name]
    plant(place / "run")
    done = rscap(*words, cwd=place)
    pages = "".join(path.read_text(encoding="utf-8") for path in place.rglob("report.html"))
    assert line in " ".join(f"{done.stderr} {done.stdout} {pages}".split())  # tables fold long lines
    assert "s3cret" not in done.stdout + done.stderr + pages
    assert "Traceback" not in done.stderr


WRITTEN: dict[str, tuple[Plant, str]] = {
    "train-log": (link("train.jsonl"), "train_log"),
    "speed-log": (link("speed.jsonl"), "speed_log"),
    "status": (link("status.json"), "status_file"),
    "recipe": (link("recipe.toml"), "recipe_file"),
    "checkpoints": (link("checkpoints", "../elsewhere"), "checkpoints"),
    "adapter": (link("adapter", "../elsewhere"), "adapter"),
    "model": (link("model", "../elsewhere"), "model"),
    "trackers": (link("trackers", "../elsewhere"), "trackers"),
    "seen": (link("seen.npz"), "seen_file"),
    "report": (link("report.html"), "report_file"),
    "provenance": (link("provenance.json"), "provenance_file"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_writer_gets_no_path_through_a_link(place: Path, name: str) -> None:
    """Every path of a run folder passes one door, whether it is read or written."""
    (place / "elsewhere").mkdir()
    plant, part = WRITTEN[name]
    plant(place / "run")
    with pytest.raises(RscapError, match=OUT):
        getattr(RunFolder(place / "run"), part)


def test_the_lock_is_no_link(place: Path) -> None:
    """Whoever locks a file empties it first: through a link, a file elsewhere."""
    link(".lock")(place / "run")
    with pytest.raises(RscapError, match="is a link to"), RunFolder(place / "run").locked():
        pass
    assert (place / "secret.txt").read_text(encoding="utf-8") == "s3cret\n"


def test_links_inside_and_in_a_cache_of_the_hub_are_followed(tmp_path: Path) -> None:
    """What `snapshot_download` makes is full of links to `blobs/`; the folder that is named may be a link itself."""
    blobs = tmp_path / "models--o--n" / "blobs"
    snapshot = tmp_path / "models--o--n" / "snapshots" / "0a"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "abc").write_text("{}", encoding="utf-8")
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    (snapshot / "again.json").symlink_to("config.json")
    (tmp_path / "named").symlink_to(snapshot)
    for folder in (snapshot, tmp_path / "named"):
        check_model_folder(folder)
        assert plain_path(folder, "again.json").read_text(encoding="utf-8") == "{}"


CODE = {
    "tokenizer": ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.M", "evil.M"]}}),
    "config": ("config.json", {"auto_map": {"AutoModel": "evil.M"}}),
    "processor": ("processor_config.json", {"auto_map": {"AutoProcessor": "evil.M"}}),
    "preprocessor": ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "evil.M"}}),
    "generation": ("generation_config.json", {"auto_map": {"x": "evil.M"}}),
    "adapter": ("adapter_config.json", {"auto_map": {"x": "evil.M"}}),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", CODE)
def test_a_folder_that_asks_for_code_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """Nothing is asked on the terminal and nothing runs, whatever comes on standard input."""
    from rscap.model.load import NANO

    base = shutil.copytree(NANO, tmp_path / "base")
    file, asked = CODE[name]
    known = json.loads((base / file).read_text(encoding="utf-8")) if (base / file).exists() else {}
    (base / file).write_text(json.dumps({**known, **asked}), encoding="utf-8")
    (base / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    done = rscap("caption", "x.png", "--model", "base", cwd=tmp_path)
    assert done.code == 2
    assert f"{file} asks to run code of its own" in done.stderr
    assert not (tmp_path / "ran").exists()


ADAPTERS: dict[str, tuple[dict[str, object] | str, str]] = {
    "rank-huge": ({"r": 10**9}, "'r' should be less than or equal to 65536"),
    "rank-negative": ({"r": -1}, "'r' should be greater than or equal to 1"),
    "rank-text": ({"r": "16"}, "'r' should be a valid integer"),
    "kind-null": ({"peft_type": None}, "'peft_type' should be a valid string"),
    "kind-missing": ({"peft_type": ...}, "'peft_type' is missing"),
    "targets-object": ({"target_modules": {}}, "'target_modules"),
    "alpha-nan": ('{"peft_type": "LORA", "lora_alpha": NaN}', "'lora_alpha' should be a finite number"),
    "alpha-infinite": ('{"peft_type": "LORA", "lora_alpha": 1e999}', "'lora_alpha' should be a finite number"),
    "dropout": ({"lora_dropout": 7}, "'lora_dropout' should be less than or equal to 1"),
    "list": ("[]", "holds a JSON list, not an object"),
    "deep": ("[" * 100_000, "is not JSON"),
    "long-number": ('{"r": ' + "9" * 5_000 + "}", "is not JSON"),
    "alpha-pattern": ({"alpha_pattern": {"x": "y"}}, "'alpha_pattern.x'"),
    "base-list": ({"base_model_name_or_path": ["x"]}, "'base_model_name_or_path' should be a valid string"),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_configuration_of_an_adapter_is_checked(tmp_path: Path, name: str) -> None:
    """Types and ranges that PEFT takes as they come are named with their key."""
    change, line = ADAPTERS[name]
    text = change
    if not isinstance(change, str):
        config = {"peft_type": "LORA", "r": 2, **change}
        text = json.dumps({key: value for key, value in config.items() if value is not ...})
    (tmp_path / "adapter_config.json").write_text(str(text), encoding="utf-8")
    with pytest.raises(RscapError) as caught:
        read_adapter_config(tmp_path)
    assert line in caught.value.message


@pytest.mark.parametrize("expression", ["(([a-z_0-9.])*)*Z", "(a|aa)+(b|bb)+(.*)*$Z", "(?:x+x+)+y.*"])
@pytest.mark.slow
def test_a_regular_expression_that_never_ends_is_refused(tmp_path: Path, expression: str) -> None:
    """PEFT would match it with every module's name."""
    config = AdapterConfig(peft_type="LORA", target_modules=expression)
    with pytest.raises(RscapError, match="takes more than 5 s"):
        check_expressions(config, ["x" * 40 + "a" * 60], where=tmp_path)


@pytest.mark.parametrize("expression", ["(", "[z-a]", "a{4,2}", "*"])
def test_an_expression_that_is_none_is_refused(tmp_path: Path, expression: str) -> None:
    """It is named with the folder."""
    config = AdapterConfig(peft_type="LORA", target_modules=expression)
    with pytest.raises(RscapError, match="is not a regular expression"):
        check_expressions(config, ["model.q_proj"], where=tmp_path)
