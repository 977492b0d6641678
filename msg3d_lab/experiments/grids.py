"""Grids of ablations: variants of one base recipe, in a YAML file.

The library's grids are files beside this module. A variant is a list of changes to the base recipe;
the folder of its run holds the whole recipe, as any run folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, model_validator

from msg3d_lab.training import recipes
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.settings import Section
from msg3d_lab.yaml_library import YamlLibrary, read_mapping

# They name folders, on every file system.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
Seed = Annotated[int, Field(ge=0)]


class Variant(Section):
    """One row of an ablation.

    Args:
        name: its name and that of its folder.
        group: the question it belongs to; p-values are corrected within a group. Default: all
            variants of the grid are one group.
        compare_with: the variant its difference is taken against.
        set: changes to the grid's recipe, with the keys of `--set`.
        note: a remark for the table.
    """

    name: Name
    group: str = ""
    compare_with: str | None = None
    set: dict[str, Any] = {}
    note: str = ""


class Grid(Section):
    """An ablation: variants of one recipe.

    Args:
        name: its name and that of its folder.
        title: its question.
        source: whose experiment it is.
        recipe: the base recipe's name, or the path of its YAML.
        set: changes of all variants.
        seeds: of the runs.
        variants: the rows of the table, in order.
    """

    name: Name
    title: str
    source: str
    recipe: str
    set: dict[str, Any] = {}
    seeds: tuple[Seed, ...] = Field(min_length=1)
    variants: tuple[Variant, ...] = Field(min_length=1)
    _all_variants: tuple[Variant, ...] = PrivateAttr(())

    @property
    def all_variants(self) -> tuple[Variant, ...]:
        """The variants including those that `only` left out, which may own the folders of runs."""
        return self._all_variants or self.variants

    @model_validator(mode="after")
    def _check_variants(self) -> Grid:
        known = [variant.name for variant in self.variants]
        twice = sorted({name for name in known if known.count(name) > 1})
        if twice:
            raise ValueError(f"two variants are called {twice[0]}: give each its own name")
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
        """Return the grid with some of its variants and those they are compared with.

        Raises:
            ValueError: an unknown variant.
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
        # A variant that is there for comparison only is not compared itself.
        kept = tuple(
            v if v.name in variants else v.model_copy(update={"compare_with": None}) for v in kept
        )
        fewer = self.model_copy(update={"variants": kept})
        fewer._all_variants = self.all_variants
        return fewer


def names() -> list[str]:
    """Return the names of the library's grids."""
    return _LIBRARY.names()


def get(name: str) -> Grid:
    """Return a grid of the library, or of a YAML file if `name` is a path to one.

    Raises:
        ValueError: an unknown name, or a file that is no grid.
    """
    if name.endswith((".yaml", ".yml")):
        return load(name)
    return _LIBRARY.get(name)


def load(path: str | Path) -> Grid:
    """Read a grid from YAML and check every variant's recipe.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML; something is missing, misspelt or out of range, also in the recipe of
            a variant.
    """
    grid = Grid.parse(read_mapping(path, kind="grid"), wrong=f"{path} is not a grid")
    for variant in grid.variants:
        build_recipe(grid, variant)
    return grid


def build_recipe(
    grid: Grid, variant: Variant, *, settings: Sequence[str] | Mapping[str, Any] = ()
) -> Recipe:
    """Return a variant's whole recipe, named after the grid.

    Variants with equal settings thus have equal hashes, and are run once. `settings` are changes of
    all variants, as `with_settings` takes them; the variant's own changes come after these.

    Raises:
        ValueError: an unknown setting or a value out of range.
    """
    recipe = recipes.get(grid.recipe)
    for each in (grid.set, settings, variant.set):
        try:
            recipe = recipes.with_settings(recipe, each)
        except ValueError as error:
            raise ValueError(f"{variant.name} of {grid.name}: {error}") from error
    return recipe.model_copy(update={"name": grid.name, "source": f"{grid.name}: {grid.source}"})


_LIBRARY: YamlLibrary[Grid] = YamlLibrary(
    Path(__file__).with_name("grids"),
    kind="grid",
    entries=lambda path: {path.stem: load(path)},
)
