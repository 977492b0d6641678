"""Recipes, the training loop and its run folders."""

from msg3d_lab.training.estimate import Estimate, estimate
from msg3d_lab.training.fit import fit
from msg3d_lab.training.learning_rate_finder import find_learning_rate, suggest
from msg3d_lab.training.overfit import overfit
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.resume import Requeue
from msg3d_lab.training.runs import Run, open_run
from msg3d_lab.training.seeds import fit_seeds
from msg3d_lab.training.tensorboard import TensorBoard

__all__ = [
    "Estimate",
    "Recipe",
    "Requeue",
    "Run",
    "TensorBoard",
    "estimate",
    "find_learning_rate",
    "fit",
    "fit_seeds",
    "open_run",
    "overfit",
    "suggest",
]
