"""adapter_config.json of PEFT, as far as it decides what a loaded adapter computes: types and ranges checked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from rscap.errors import StoreError
from rscap.store.door import check_model_folder, plain_path
from rscap.store.record import Record

ADAPTER_CONFIG, ADAPTER_TENSORS = "adapter_config.json", "adapter_model.safetensors"
MOST_TENSORS = 50_000
"""Of an adapter; LoRA on every layer of a model of 3 billion parameters has 1,190."""

_Rank = Annotated[int, Field(ge=1, le=2**16)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Names = list[str] | str | None


class AdapterConfig(Record):
    """What rscap and PEFT read of adapter_config.json; other keys are kept."""

    peft_type: Annotated[str, Field(min_length=1)]
    base_model_name_or_path: str | None = None
    r: _Rank | None = None
    lora_alpha: _Number | None = None
    lora_dropout: Annotated[float, Field(ge=0, le=1)] | None = None
    use_rslora: bool | None = None
    use_dora: bool | None = None
    target_modules: _Names = None
    exclude_modules: _Names = None
    modules_to_save: list[str] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: _Names = None
    rank_pattern: dict[str, Any] | None = None
    alpha_pattern: dict[str, _Number] | None = None

    @property
    def expressions(self) -> list[str]:
        """The regular expressions that PEFT matches with the names of all modules."""
        single = (self.target_modules, self.exclude_modules, self.layers_pattern)
        alone = [one for one in single if isinstance(one, str)]
        listed = self.layers_pattern if isinstance(self.layers_pattern, list) else []
        return [*alone, *listed, *(self.rank_pattern or {}), *(self.alpha_pattern or {})]


def read_adapter_config(folder: Path) -> AdapterConfig:
    """The configuration of the adapter in a folder, whose files are checked first.

    Raises:
        StoreError: as `check_model_folder`, or the configuration is missing or a key of it holds a wrong value.
    """
    check_model_folder(folder)
    return AdapterConfig.read(plain_path(folder, ADAPTER_CONFIG))


_SECONDS = 5
_REPEATS = re.compile(r"[*+}]")
_TRY = "import json,re,sys;e,n=json.load(sys.stdin);[re.fullmatch(x,y) for x in e for y in n]"


def check_expressions(config: AdapterConfig, names: Iterable[str], *, where: Path) -> None:
    """Refuse regular expressions that are invalid, or that take for ever to match.

    Python cannot stop a match, so that one with several repetitions is tried in a process of its own.

    Raises:
        StoreError: names the folder and the expression.
    """
    for expression in config.expressions:
        try:
            re.compile(expression)
        except (re.error, RecursionError, OverflowError) as error:
            raise StoreError(f"{where}: {expression[:80]!r} is not a regular expression: {error}") from None
    if not (doubtful := [one for one in config.expressions if len(_REPEATS.findall(one)) > 2]):
        return
    given = json.dumps([doubtful, list(names)])
    try:
        subprocess.run([sys.executable, "-I", "-c", _TRY], input=given, text=True, timeout=_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        raise StoreError(
            f"{where}: matching {doubtful[0][:80]!r} with the modules' names takes more than {_SECONDS} s",
            hint="list the modules by name",
        ) from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise StoreError(f"{where}: {doubtful[0][:80]!r} could not be tried: {error}") from error
