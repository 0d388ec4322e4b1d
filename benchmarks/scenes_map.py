"""The part `map` of benchmarks/scenes.py: a page with 5,000 windows in Chromium, opened and searched."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from statistics import median
from typing import Any

from rscap.scene.map_page import write_map

WINDOWS_A_SIDE = 71
OPEN_TARGET_S, SEARCH_TARGET_MS = 2.0, 100.0
_THINGS = ("solar panels", "a road", "planes", "a river", "storage tanks", "trees", "a stadium", "boats")
_PLACES = ("a parking lot", "some houses", "a field", "the sea", "a harbour", "two runways", "bare land")
_SEARCHES = ("solar panel", "road", "plane trees", "r", "a", "", "storage tank near house", "boats")

# From a key until two frames were drawn: in the first the list and the map change, the second follows what it cost.
_SEARCH = """
(text) => new Promise((done) => {
  const box = document.getElementById("words");
  const began = performance.now();
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
})
"""


def captions(path: Path) -> None:
    """Made captions of a grid of windows beside the sea."""
    features = []
    for number in range(WINDOWS_A_SIDE**2):
        row, column = divmod(number, WINDOWS_A_SIDE)
        west, north = 11.0 + column * 0.002, 50.0 - row * 0.002
        ring = [[west, north - 0.002], [west + 0.002, north - 0.002], [west + 0.002, north], [west, north]]
        text = (
            f"{_THINGS[number % len(_THINGS)]} and {_THINGS[(number // 7) % len(_THINGS)]} near {_PLACES[number % 7]}"
        )
        said = {
            "caption": text,
            "confidence": -(number % 90) / 100,
            "flags": ["cut"] if number % 50 == 0 else [],
            "scene": "made.tif",
            "row": row,
            "column": column,
        }
        geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        features.append({"type": "Feature", "geometry": geometry, "properties": said})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")


def _work(tools: Any) -> float:
    """Processor seconds of the page's main thread: script, layout and painting."""
    found = {one["name"]: one["value"] for one in tools.send("Performance.getMetrics")["metrics"]}
    return float(found["TaskDuration"])


def measured(folder: Path, repetitions: int) -> dict[str, Any]:
    """Seconds until the page can be used, and milliseconds of searches, of `repetitions` fresh pages."""
    from playwright.sync_api import sync_playwright

    captions(folder / "captions.geojson")
    write_map(folder / "captions.geojson", folder / "map.html", pictures=False)
    opened, searched, worked = list[float](), list[float](), list[float]()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(repetitions):
            page = browser.new_page(viewport={"width": 1280, "height": 844})
            page.goto((folder / "map.html").as_uri())
            page.locator("#list button").first.wait_for()
            opened.append(page.evaluate("performance.now()") / 1000)
            tools = page.context.new_cdp_session(page)
            tools.send("Performance.enable", {"timeDomain": "threadTicks"})
            for text in _SEARCHES:
                before = _work(tools)
                searched.append(page.evaluate(_SEARCH, text))
                worked.append(1000 * (_work(tools) - before))
            page.close()
        browser.close()
    return {
        "windows": WINDOWS_A_SIDE**2,
        "page_bytes": (folder / "map.html").stat().st_size,
        "seconds_to_open": {"median": median(opened), "worst": max(opened), "target": OPEN_TARGET_S},
        "milliseconds_of_a_search": {
            "count": len(searched),
            "median": median(searched),
            "worst": max(searched),
            "above_target": sum(one > SEARCH_TARGET_MS for one in searched),
            "target": SEARCH_TARGET_MS,
        },
        "processor_milliseconds_of_a_search": {"median": median(worked), "worst": max(worked)},
        "load_average": os.getloadavg(),
    }
