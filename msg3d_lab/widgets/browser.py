"""The base of the widgets that run in the browser, and how arrays travel to them.

Such a widget is one ES module in `js/` with a function `render({ model, el })` (the front-end
module of anywidget.dev/en/afm). It computes what it draws by itself. With a kernel its traits
follow the controls, so that Python reads and sets them; without one (a page of the site, a notebook
that was only opened) the same module runs on the values that were saved, and where scripts may not
run there is a still picture.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from matplotlib.figure import Figure

from msg3d_lab.viz.html import template
from msg3d_lab.viz.style import png

_JS = resources.files("msg3d_lab.widgets") / "js"
_PLAYER = resources.files("msg3d_lab.viz.motion") / "templates"
GRAPH_CSS = (_JS / "graphs.css").read_text(encoding="utf-8")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)


def module(path: str | Path) -> str:
    """Return a module, of `js/` or from a file, with the modules of `js/` it imports in front."""
    source = _JS / path if isinstance(path, str) else path
    return _with_imports(source.read_text(encoding="utf-8"), seen=set())


class BrowserWidget(anywidget.AnyWidget):
    """A widget whose module runs in the browser; subclasses draw its still picture.

        class AdjacencyExplorer(BrowserWidget):
            _esm = module("adjacency.js")

    Its state is its own traits with `sync=True`, without those whose names begin with an
    underscore; they hold what JSON holds (see `pack` for arrays).
    """

    _css = (_JS / "common.css").read_text(encoding="utf-8")

    def figure(self) -> Figure:
        """Return what the widget shows now, as a still figure."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return what the widget shows now, in a sentence, for readers who do not see it."""
        raise NotImplementedError

    def html(self) -> str:
        """Return the widget as one piece of HTML that needs neither a kernel nor a network."""
        names = [name for name in self.traits(sync=True) if not name.startswith("_")]
        own = set(names) - set(anywidget.AnyWidget.class_trait_names(sync=True))
        state = htmlsafe_json_dumps({name: getattr(self, name) for name in sorted(own)})
        code = str(self._esm).replace("export default", "const widget =")
        still = base64.b64encode(png(self.figure(), dpi=80, palette=True)).decode()
        return template("msg3d_lab.widgets", "widget.html").render(
            key=hashlib.sha256(f"{state}{code}".encode()).hexdigest()[:10],
            alt=self.describe(),
            still=still,
            style=str(self._css),
            state=state,
            module=code,
        )

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**(data or {}), "text/html": self.html(), "text/plain": self.describe()}, metadata


def pack(array: np.ndarray) -> dict[str, Any]:
    """Return an array for `unpack` in `js/common.js`: its shape, type and compressed bytes.

    Args:
        array: of any shape; float64 becomes float32, int64 becomes int32.
    """
    kinds = {"f": "float32", "i": "int32", "u": "uint8", "b": "uint8"}
    kind = array.dtype.name if array.dtype.itemsize <= 2 else kinds[array.dtype.kind]
    kind = "uint8" if kind == "bool" else "float32" if kind == "float16" else kind
    raw = np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<")).tobytes()
    data = base64.b64encode(gzip.compress(raw, mtime=0)).decode()
    return {"shape": list(array.shape), "type": kind, "data": data}


def _with_imports(source: str, *, seen: set[str]) -> str:
    """Put the modules that a module imports in front of it, each once: a widget is one file."""
    before = []
    for name in _IMPORT.findall(source):
        if name not in seen:
            seen.add(name)
            folder = _PLAYER if name == "player.js" else _JS  # reports draw with it too
            text = (folder / name).read_text(encoding="utf-8")
            before.append(_with_imports(text, seen=seen).replace("export ", ""))
    return "".join([*before, _IMPORT.sub("", source)])
