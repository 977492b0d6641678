"""Recipes, the training loop and its run folders."""

from msg3d_lab.training.fit import fit
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.resume import Requeue
from msg3d_lab.training.runs import Run, open_run
from msg3d_lab.training.seeds import fit_seeds

__all__ = ["Recipe", "Requeue", "Run", "fit", "fit_seeds", "open_run"]
