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
from msg3d_lab.widgets.browser import BrowserWidget

REPEATS = 60
# A value goes to the input, its listeners run, and then what they asked for the next picture.
TIMED = """async ([selector, values]) => {
  const input = document.querySelector(selector), times = [];
  for (const value of values) {
    const start = performance.now();
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    const script = performance.now() - start;
    let drawn = 0;
    await new Promise((done) => requestAnimationFrame(() => {
      const later = performance.now();
      setTimeout(() => { drawn = performance.now() - later; done(); });
    }));
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


CASES: dict[str, Callable[[], Case]] = {
    "Player": player,
    "AdjacencyExplorer": adjacency,
    "WindowExplorer": window,
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
            file.write_text(f"<!doctype html><title>{name}</title>{case.widget.html()}")
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
