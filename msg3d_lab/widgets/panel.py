"""The base of the panels that follow run folders while somebody looks at them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import traitlets

from msg3d_lab.widgets.browser import _JS, BrowserWidget

_SECONDS = 1.0  # between two looks at the files
_AWAY = 60.0  # seconds without a sign of a viewer after which nothing is read any more


class Panel(BrowserWidget):
    """A widget that reads files again while somebody looks at it.

    The page says every 15 seconds that it shows the panel; a thread then calls `refresh` once a
    second, and ends a minute after the last sign, or when the panel is closed. So a restarted
    kernel, a reloaded page and a cell that was run again leave nothing behind.
    """

    _css = BrowserWidget._css + (_JS / "panels.css").read_text(encoding="utf-8")

    # Counts the actions that were carried out: the page then enables its buttons again.
    answered = traitlets.Int(0).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._guard = threading.RLock()
        self._looked_at = 0.0  # never
        self._thread: threading.Thread | None = None
        self._open = True
        self.on_msg(self._receive)

    def refresh(self) -> None:
        """Read what has changed and show it."""
        raise NotImplementedError

    def act(self, action: str, content: dict[str, Any]) -> None:
        """Carry out what a button asks for."""
        raise NotImplementedError

    def close(self) -> None:
        """End the panel; what it follows goes on."""
        self._open = False
        super().close()

    def _receive(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        if content.get("action") == "look":
            self._looked_at = time.monotonic()
            with self._guard:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._follow, daemon=True)
                    self._thread.start()
            return
        if "action" not in content:  # a message of anywidget itself
            return
        self.act(content["action"], content)
        self.refresh()
        self.answered += 1

    def _follow(self) -> None:
        while self._open and time.monotonic() - self._looked_at < _AWAY:
            self.refresh()
            time.sleep(_SECONDS)


def curve_points(metrics: pd.DataFrame, column: str) -> list[list[float]]:
    """Return the points of a curve by epoch, as the page shows it: accuracies are in percent."""
    factor = 100 if column.endswith("_top1") else 1
    line = metrics[["epoch", column]].dropna().to_numpy(float)
    return [[x, float(f"{factor * y:.6g}")] for x, y in line.tolist()]


def stamp(paths: Iterable[Path]) -> tuple[Any, ...]:
    """Return what differs once one of these files has changed: a stat each, nothing is read."""
    found: list[Any] = []
    for path in paths:
        try:
            facts = path.stat()
            found.append((facts.st_mtime_ns, facts.st_size, facts.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)
