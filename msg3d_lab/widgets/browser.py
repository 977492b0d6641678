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
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
from matplotlib.figure import Figure

from msg3d_lab.viz.html import template
from msg3d_lab.viz.style import png

_JS = resources.files("msg3d_lab.widgets") / "js"
GRAPH_CSS = (_JS / "graphs.css").read_text(encoding="utf-8")
