"""Grids: a list of variants, each a difference from one base recipe, in a YAML file.

Grids of the library are files beside this module. A run of a variant has the whole recipe in its
folder, as any run; the grid only says how it differs and what it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from msg3d_lab.training import recipes
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.settings import Section
from msg3d_lab.yaml_library import YamlLibrary, explain_errors, read_mapping

__all__ = ["Grid", "Variant", "get", "load", "names", "recipe_of"]

# They name folders, on every file system.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
Seed = Annotated[int, Field(ge=0)]


class Variant(Section):
    """One row of an ablation.

    Args:
        name: its name, and its folder's.
        table: the table of the paper it belongs to, "" if the paper has none. P-values are
            corrected within a table.
        compare_with: the variant its difference is taken against.
        set: how its recipe differs from the grid's, with the keys of `--set`.
        note: what the row is, where the settings do not say it.
    """

    name: Name
    table: str = ""
    compare_with: str | None = None
    set: dict[str, Any] = {}
    note: str = ""


class Grid(Section):
    """An ablation: variants of one recipe.

    Args:
        name: its name, and its folder's.
        title: what it asks.
        source: whose experiment it is.
        recipe: the base recipe's name, or the path of its YAML.
        set: how all variants differ from it.
        seeds: to run if nobody says otherwise.
        variants: the rows, in their order.
    """

    name: Name
    title: str
    source: str
    recipe: str
    set: dict[str, Any] = {}
    seeds: tuple[Seed, ...] = Field(min_length=1)
    variants: tuple[Variant, ...] = Field(min_length=1)
    _whole: tuple[Variant, ...] = PrivateAttr(())

    @property
    def every(self) -> tuple[Variant, ...]:
        """The variants, those that `only` left out as well: they may own the folders of runs."""
        return self._whole or self.variants

    @model_validator(mode="after")
    def _fits_together(self) -> Grid:
        known = [variant.name for variant in self.variants]
        twice = sorted({name for name in known if known.count(name) > 1})
        if twice:
            raise ValueError(f"two variants are called {twice[0]}: give each a name of its own")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"expected every seed once, found {list(self.seeds)}")
        for variant in self.variants:
            other = variant.compare_with
            if other == variant.name or other not in (None, *known):
                raise ValueError(
                    f"{variant.name} is compared with {other!r}: expected another variant of the "
                    f"grid, one of {', '.join(n for n in known if n != variant.name)}"
                )
        return self

    def only(self, variants: Sequence[str]) -> Grid:
        """The grid with some of its variants, and those they are compared with.

        Raises:
            ValueError: there is no such variant; the message lists those there are.
        """
        by_name = {variant.name: variant for variant in self.variants}
        for name in variants:
            if name not in by_name:
                raise ValueError(
                    f"{self.name} has no variant {name!r}: expected some of {', '.join(by_name)}"
                )
        wanted = set(variants)
        wanted |= {str(by_name[name].compare_with) for name in variants}
        kept = tuple(variant for variant in self.variants if variant.name in wanted)
        # What a reference is compared with may be left out now.
        kept = tuple(
            v if v.name in variants else v.model_copy(update={"compare_with": None}) for v in kept
        )
        fewer = self.model_copy(update={"variants": kept})
        fewer._whole = self.every
        return fewer


def names() -> list[str]:
    """The names of the library's grids."""
    return _LIBRARY.names()


def get(name: str) -> Grid:
    """Return a grid of the library, or of a YAML file if `name` is a path to one.

    Raises:
        ValueError: no such grid; the message lists those there are. A file that is no grid.
    """
    if name.endswith((".yaml", ".yml")):
        return load(name)
    return _LIBRARY.get(name)


def load(path: str | Path) -> Grid:
    """Read a grid from YAML, and try out every variant's recipe.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no YAML; something is missing, misspelt or out of range; a variant whose recipe
            is none.
    """
    try:
        grid = Grid.model_validate(read_mapping(path, kind="grid"))
    except ValidationError as error:
        raise ValueError(f"{path} is not a grid: {explain_errors(error)}") from error
    for variant in grid.variants:
        recipe_of(grid, variant)
    return grid


def recipe_of(
    grid: Grid, variant: Variant, *, settings: Sequence[str] | Mapping[str, Any] = ()
) -> Recipe:
    """Return a variant's whole recipe, which is called as the grid.

    So variants that come out the same have the same hash, and are run once.

    Args:
        grid: the grid.
        variant: one of its variants.
        settings: changes of all variants, as `with_settings` takes them; what a variant sets itself
            stays.

    Raises:
        ValueError: an unknown setting or a value out of range; the message names the variant.
    """
    recipe = recipes.get(grid.recipe)
    for each in (grid.set, settings, variant.set):
        try:
            recipe = recipes.with_settings(recipe, each)
        except ValueError as error:
            raise ValueError(f"{variant.name} of {grid.name}: {error}") from error
    return recipe.model_copy(update={"name": grid.name, "source": f"{grid.name}: {grid.source}"})


def _entries(path: Path) -> dict[str, Grid]:
    grid = load(path)
    return {grid.name: grid}


_LIBRARY: YamlLibrary[Grid] = YamlLibrary(
    Path(__file__).with_name("grids"), kind="grid", entries=_entries
)
