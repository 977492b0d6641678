"""MS-G3D Lab: a notebook-driven research workbench for MS-G3D.

    import msg3d_lab as lab

    run = lab.fit("synthetic-joint")
    model = lab.load_model(run.path)
    store = lab.open_store("data/nw-ucla.arrow")

Importing the package loads nothing else. Each name below loads its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msg3d_lab import allocator as allocator
    from msg3d_lab import analysis as analysis
    from msg3d_lab import data as data
    from msg3d_lab import demo as demo
    from msg3d_lab import evaluation as evaluation
    from msg3d_lab import experiments as experiments
    from msg3d_lab import explain as explain
    from msg3d_lab import graph as graph
    from msg3d_lab import inference as inference
    from msg3d_lab import model as model
    from msg3d_lab import reporting as reporting
    from msg3d_lab import skeletons as skeletons
    from msg3d_lab import training as training
    from msg3d_lab import viz as viz
    from msg3d_lab import widgets as widgets
    from msg3d_lab.allocator import tune_allocator as tune_allocator
    from msg3d_lab.data import Store as Store
    from msg3d_lab.data import import_dataset as import_dataset
    from msg3d_lab.data import load_synthetic as load_synthetic
    from msg3d_lab.data import open_store as open_store
    from msg3d_lab.demo import open_demo as open_demo
    from msg3d_lab.demo import run_demo as run_demo
    from msg3d_lab.evaluation import evaluate as evaluate
    from msg3d_lab.experiments import ablate as ablate
    from msg3d_lab.experiments import fit_seeds as fit_seeds
    from msg3d_lab.inference import Predictor as Predictor
    from msg3d_lab.model import MSG3D as MSG3D
    from msg3d_lab.model import load_model as load_model
    from msg3d_lab.model import save_model as save_model
    from msg3d_lab.skeletons import Skeleton as Skeleton
    from msg3d_lab.training import Recipe as Recipe
    from msg3d_lab.training import Run as Run
    from msg3d_lab.training import fit as fit
    from msg3d_lab.training import open_run as open_run
    from msg3d_lab.training import run_of_weights as run_of_weights

__version__ = "0.1.0"

# The public names: each room, and what each room gives to the top. Keep equal to the imports above.
_ROOMS: dict[str, tuple[str, ...]] = {
    "allocator": ("tune_allocator",),
    "analysis": (),
    "data": ("Store", "import_dataset", "load_synthetic", "open_store"),
    "demo": ("open_demo", "run_demo"),
    "evaluation": ("evaluate",),
    "experiments": ("ablate", "fit_seeds"),
    "explain": (),
    "graph": (),
    "inference": ("Predictor",),
    "model": ("MSG3D", "load_model", "save_model"),
    "reporting": (),
    "skeletons": ("Skeleton",),
    "training": ("Recipe", "Run", "fit", "open_run", "run_of_weights"),
    "viz": (),
    "widgets": (),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}
__all__ = sorted({*_ROOMS, *_HOME})


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
