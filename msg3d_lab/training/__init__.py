"""Recipes, the training loop and its run folders."""

from msg3d_lab.training.callbacks import TensorBoard
from msg3d_lab.training.diagnostics.estimation import Estimate, estimate
from msg3d_lab.training.diagnostics.lr_finder import find_learning_rate, suggest
from msg3d_lab.training.diagnostics.overfitting import overfit
from msg3d_lab.training.loop import fit
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import Run, open_run
from msg3d_lab.training.signals import Requeue, Stopped
from msg3d_lab.training.weights.as_run import run_of_weights

__all__ = [
    "Estimate",
    "Recipe",
    "Requeue",
    "Run",
    "Stopped",
    "TensorBoard",
    "estimate",
    "find_learning_rate",
    "fit",
    "open_run",
    "overfit",
    "run_of_weights",
    "suggest",
]
