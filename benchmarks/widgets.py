"""Time from an input to the picture, for the widgets that run in the browser.

    python benchmarks/widgets.py

For each widget: the script time of one input (median and worst of 60, milliseconds), on a page
without a kernel. The goal is 16 ms; 100 ms must hold on a loaded machine.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from playwright.sync_api import sync_playwright

import msg3d_lab as lab
from msg3d_lab.data import Clip, Store, open_store, write_store
from msg3d_lab.evaluation import Scores
from msg3d_lab.training import recipes
from msg3d_lab.training.runs import create_run
from msg3d_lab.widgets.browser import BrowserWidget

REPEATS = 60
# A value goes to the input, its listeners run, and then the next picture: what they asked for it
# (callbacks run in the order in which they were asked for), layout and paint.
TIMED = """async ([selector, values]) => {
  const input = document.querySelector(selector), times = [];
  for (const value of values) {
    let frame = 0, drawn = 0;
    requestAnimationFrame(() => (frame = performance.now()));
    const start = performance.now();
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    const script = performance.now() - start;
    await new Promise((done) => requestAnimationFrame(() => setTimeout(() => {
      drawn = performance.now() - frame;
      done();
    })));
    times.push(script + drawn);
  }
  return times;
}"""


class Case(NamedTuple):
    """A widget, and the input that is moved through values."""

    widget: BrowserWidget
    selector: str
    values: list[int]


def player() -> Case:
    """Two clips of 60 frames are scrubbed."""
    rng = np.random.default_rng(0)
    clip, values = rng.normal(size=(2, 60, 25, 3)), rng.normal(size=(2, 60, 25))
    body = lab.skeletons.get("ntu25")
    widget = lab.widgets.Player(clip, body, second=clip, values=values, trail=30)
    return Case(widget, ".msg3d-player input", [i % 60 for i in range(REPEATS)])


def adjacency() -> Case:
    """Both aggregations side by side, k dragged from 0 to 12."""
    widget = lab.widgets.AdjacencyExplorer("ntu25", joint="left wrist")
    return Case(widget, ".msg3d-lab input", [i % 13 for i in range(REPEATS)])


def window() -> Case:
    """The largest window, hops dragged from 0 to 12."""
    widget = lab.widgets.WindowExplorer("ntu25", window_size=7, edges="grid")
    return Case(widget, ".msg3d-lab input", [i % 13 for i in range(REPEATS)])


def errors() -> Case:
    """120 classes, 10,000 clips: the confidence is filtered."""
    rng = np.random.default_rng(0)
    labels = rng.integers(120, size=10_000)
    said = np.where(rng.random(10_000) < 0.8, labels, rng.integers(120, size=10_000))
    values = np.full((10_000, 120), 0.01, np.float32)
    values[np.arange(10_000), said] = rng.uniform(0.2, 1, 10_000)
    names = tuple(f"class {i}" for i in range(120))
    ids = tuple(f"c{i}" for i in range(10_000))
    scores = Scores(ids, labels, values / values.sum(1, keepdims=True), names)
    widget = lab.widgets.ErrorBrowser(scores, _store(scores), packed=0)
    return Case(widget, ".msg3d-lab input[type=range]", [i % 60 for i in range(REPEATS)])


def _store(scores: Scores) -> Store:
    """A store with a small clip per sample."""
    clip = np.ones((1, 2, 25, 3), np.float32)
    clips = (
        Clip(name, clip, int(label), ("test",))
        for name, label in zip(scores.ids, scores.labels, strict=True)
    )
    path = Path(tempfile.mkdtemp()) / "store.arrow"
    facts = {"dataset": "made", "preparation": {"name": "none"}, "synthetic": True}
    body = lab.skeletons.get("ntu25")
    names = list(scores.label_names)
    return open_store(
        write_store(path, clips, skeleton=body, label_names=names, channels=3, **facts)
    )


def importance() -> Case:
    """The player is scrubbed, the heatmap follows; a network that was not trained."""
    store = lab.load_synthetic()
    recipe = recipes.get("synthetic-joint")
    model = lab.MSG3D(num_classes=16, skeleton="ntu25", **recipe.model.model_dump()).eval()
    data = {"path": str(store.path), "fingerprint": store.fingerprint}
    run = create_run(Path(tempfile.mkdtemp()) / "run", recipe, {"data": data}, model=model)
    widget = lab.widgets.ImportanceExplorer(run, store, clips=store.ids[:1])
    last = widget.results[next(iter(widget.results))]["record"]["shape"][1]
    return Case(widget, ".msg3d-player input", [i % last for i in range(REPEATS)])


CASES: dict[str, Callable[[], Case]] = {
    "Player": player,
    "AdjacencyExplorer": adjacency,
    "WindowExplorer": window,
    "ErrorBrowser": errors,
    "ImportanceExplorer": importance,
}


def main() -> None:
    """Print the table."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    rows = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, make in CASES.items():
            case = make()
            file = Path(folder) / f"{name}.html"
            file.write_text(
                f"<!doctype html><meta charset=utf-8><title>{name}</title>{case.widget.html()}"
            )
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            page.goto(file.as_uri())
            page.wait_for_selector(case.selector)
            times = page.evaluate(TIMED, [case.selector, case.values])
            rows.append(
                {
                    "widget": name,
                    "median ms": np.median(times),
                    "worst ms": max(times),
                    "KB": file.stat().st_size / 1000,
                }
            )
        browser.close()
    print(pd.DataFrame(rows).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
