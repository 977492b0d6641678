"""MS-G3D Lab: a notebook-driven research workbench for MS-G3D.

import msg3d_lab

model = msg3d_lab.load_model("runs/demo")
store = msg3d_lab.data.open_store("data/nw-ucla.arrow")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from msg3d_lab import graph, skeletons
from msg3d_lab.allocator import tune_allocator
from msg3d_lab.model import MSG3D, load_model, save_model
from msg3d_lab.skeletons import Skeleton

if TYPE_CHECKING:
    from msg3d_lab import analysis, data, evaluation, experiments, training, viz

__version__ = "0.1.0"
__all__ = [
    "MSG3D",
    "Skeleton",
    "analysis",
    "data",
    "evaluation",
    "experiments",
    "graph",
    "load_model",
    "save_model",
    "skeletons",
    "training",
    "tune_allocator",
    "viz",
]

# Data frames, recipes and plots take long to import: their packages load when first used.
_LAZY = {"analysis", "data", "evaluation", "experiments", "training", "viz"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
