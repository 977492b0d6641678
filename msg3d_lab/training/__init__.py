"""Recipes, the training loop and its run folders."""

from msg3d_lab.training.fit import fit
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import Run, open_run

__all__ = ["Recipe", "Run", "fit", "open_run"]
