"""JSON schemas of the shared folder, with their references resolved without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from checkout import shared


def _nested(content: dict[str, Any], *path: str) -> dict[str, Any]:
    for key in reversed(path):
        content = {key: content}
    return content


BETA, RELEASED = "1.1.0-beta.1", "1.1.0"
GEOJSON = {
    "Feature": {"type": "object", "required": ["type", "properties", "geometry"]},
    "Geometry": {"type": "object", "required": ["type", "coordinates"]},
}
"""Stubs: geometries are validated by geojson-pydantic."""
_KINDS = (
    "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 cint16 cint32 cfloat32 cfloat64 other"
)
EXTENSIONS = {
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json": _nested(
        {"type": "string", "enum": _KINDS.split()}, "definitions", "bands", "items", "properties", "data_type"
    ),
    "https://stac-extensions.github.io/processing/v1.1.0/schema.json": _nested(
        {}, "definitions", "fields", "properties", "processing:expression"
    ),
    "https://stac-extensions.github.io/classification/v1.1.0/schema.json": _nested(
        {}, "definitions", "fields", "properties", "classification:classes"
    ),
}
"""The parts of other extensions that the schema of MLM refers to."""


def validator(name: str) -> Draft7Validator:
    """The validator of `data/schemas/<name>.json`; what it refers to and is not there accepts anything."""
    folder = shared("data") / "schemas"
    found = {path: _schema(path) for path in sorted(folder.glob("*.json"))}
    known = {
        schema["$id"].rstrip("#").replace("commonjson", "common.json"): schema
        for schema in found.values()
        if "$id" in schema
    }
    known |= {f"https://geojson.org/schema/{kind}.json": stub for kind, stub in GEOJSON.items()}

    known |= EXTENSIONS

    def retrieve(uri: str) -> Resource[Any]:
        return Resource.from_contents(known.get(uri.rstrip("#"), {}), default_specification=DRAFT7)

    registry: Registry[Any] = Registry(retrieve=retrieve)  # type: ignore[call-arg]
    schema = found[folder / f"{name}.json"]
    return Draft7Validator(schema, registry=registry, format_checker=FormatChecker())


def _schema(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    ours = json.loads(text)
    if ours.get("$id", "").startswith(
        "https://schemas.stacspec.org"
    ):  # the released version differs in its number alone
        ours = json.loads(text.replace(f'"const": "{BETA}"', f'"const": "{RELEASED}"'))
    return ours


def problems(name: str, content: Any) -> list[str]:
    """What a schema finds wrong."""
    return [
        f"{'/'.join(map(str, one.absolute_path))}: {one.message:.200}" for one in validator(name).iter_errors(content)
    ]
