import pytest
import torch
import yaml

from msg3d_lab.experiments import Grid, grids
from msg3d_lab.model import MSG3D

ADJACENCY = ("ntu60-adjacency", "synthetic-compact")


@pytest.fixture
def document():
    return {
        "name": "own",
        "title": "t",
        "source": "s",
        "recipe": "synthetic-joint",
        "seeds": [1],
        "variants": [{"name": "a"}, {"name": "b", "compare_with": "a", "set": {"epochs": 2}}],
    }


def written(document, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def models(grid):
    """(variant, its model's settings) of every variant."""
    return [(v, grids.build_recipe(grid, v).model.model_dump()) for v in grid.variants]


def changes(grid, variant):
    """The model settings in which a variant differs from the one it is compared with."""
    by_name = {v.name: settings for v, settings in models(grid)}
    one, other = by_name[variant.name], by_name[variant.compare_with]
    return {name for name in one if one[name] != other[name]}


def test_the_librarys_grids():
    assert grids.names() == [
        "ntu60-adjacency",
        "ntu60-components",
        "ntu60-edges",
        "ntu60-settings",
        "ntu60-windows",
        "nw-ucla-views",
        "synthetic-compact",
    ]
    for name in grids.names():
        assert grids.get(name).name == name


@pytest.mark.parametrize("name", grids.names())
def test_variants_of_the_library_can_be_built(name):
    for variant in grids.get(name).variants:
        recipe = grids.build_recipe(grids.get(name), variant)
        with torch.device("meta"):  # without memory for the weights
            model = MSG3D(num_classes=3, **recipe.model.model_dump())
        assert sum(p.numel() for p in model.parameters()) > 0


@pytest.mark.parametrize("name", ADJACENCY)
def test_names_with_k_have_k_plus_one_scales(name):
    for variant, model in models(grids.get(name)):
        words = variant.name.split("-")
        hops = [int(word[1:]) for word in words if word[0] == "k" and word[1:].isdigit()]
        if hops:
            scales = model["num_g3d_scales" if words[0] == "g3d" else "num_gcn_scales"]
            assert scales == hops[0] + 1
            assert model["aggregation"] == ("powers" if "powers" in words else "disentangled")


@pytest.mark.parametrize("name", ADJACENCY)
def test_disentangled_rows_differ_from_powers_in_nothing_else(name):
    grid = grids.get(name)
    rows = [v for v in grid.variants if "disentangled" in v.name.split("-")]
    assert rows
    for variant in rows:
        assert variant.compare_with == variant.name.replace("disentangled", "powers")
        assert changes(grid, variant) == {"aggregation"}


def test_adjacency_grid_has_every_combination_of_the_paper():
    found = [
        (
            model["pathways"],
            len(model["tcn_dilations"]),
            model["residual_mask"],
            model["aggregation"],
            model["num_g3d_scales" if "g3d" in model["pathways"] else "num_gcn_scales"] - 1,
        )
        for _, model in models(grids.get("ntu60-adjacency"))
    ]
    kinds = [(("factorized",), 1), (("factorized",), 4), (("g3d",), 4)]
    # With one hop the two graphs are the same, and stand there once.
    graphs = [("disentangled", 1)]
    graphs += [(a, K) for a in ("powers", "disentangled") for K in (4, 8, 12)]
    assert sorted(found) == sorted(
        (*kind, mask, *graph) for kind in kinds for mask in (True, False) for graph in graphs
    )


@pytest.mark.parametrize("name", ["ntu60-edges", "synthetic-compact"])
def test_dense_rows_differ_from_grid_in_nothing_else(name):
    grid = grids.get(name)
    rows = [v for v in grid.variants if v.name.startswith("dense")]
    assert len(rows) == 2
    for variant in rows:
        assert variant.compare_with == variant.name.replace("dense", "grid")
        assert changes(grid, variant) == {"window_edges"}


def test_rows_of_the_settings_grid_change_what_their_names_say():
    grid = grids.get("ntu60-settings")
    assert changes(grid, grid.variants[1]) == {"base_channels"}
    for variant in grid.variants[1:]:
        assert variant.compare_with == "reference"
        expected = 2 if variant.name == "dialect-openmmlab" else 1
        assert len(variant.set) == expected


def test_build_recipe_is_called_as_the_grid_so_that_equal_recipes_are_seen():
    grid = grids.get("synthetic-compact")
    by_name = {v.name: grids.build_recipe(grid, v) for v in grid.variants}
    assert {r.name for r in by_name.values()} == {"synthetic-compact"}
    assert by_name["dense-3"] == by_name["window-3"]
    assert len({r.hash for r in by_name.values()}) == len(by_name) - 2


def test_build_recipe_lets_a_variant_win_over_the_settings_of_all():
    grid = grids.get("ntu60-settings")
    narrow = next(v for v in grid.variants if v.name == "width-24")
    recipe = grids.build_recipe(grid, narrow, settings=["base_channels=12", "epochs=2"])
    assert (recipe.model.base_channels, recipe.training.epochs) == (24, 2)


def test_get_reads_a_file(document, tmp_path):
    grid = grids.get(written(document, tmp_path))
    assert grids.build_recipe(grid, grid.variants[1]).training.epochs == 2
    assert grids.build_recipe(grid, grid.variants[0]).training.epochs == 10


def test_only_keeps_what_the_chosen_are_compared_with():
    grid = grids.get("synthetic-compact").only(["disentangled-k4", "window-1"])
    assert [v.name for v in grid.variants] == ["powers-k4", "disentangled-k4", "window-1"]
    # powers-k1 was not asked for.
    assert [v.compare_with for v in grid.variants] == [None, "powers-k4", None]
    assert grid.all_variants == grids.get("synthetic-compact").variants
    assert grid.only(["window-1"]).all_variants == grid.all_variants
    with pytest.raises(ValueError, match="no variant 'k3': expected some of powers-k1, "):
        grids.get("synthetic-compact").only(["k3"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "two variants are called a"),
        ({"variants": []}, "variants: .* at least 1 item"),
        ({"seeds": []}, "seeds: .* at least 1 item"),
        ({"seeds": [1, 1]}, r"every seed once, found \[1, 1\]"),
        ({"seeds": [-1]}, r"seeds\.0: .* greater than or equal to 0"),
        ({"variants": [{"name": "a", "compare_with": "b"}]}, "a is compared with 'b': expected"),
        ({"variants": [{"name": "a", "compare_with": "a"}]}, "a is compared with 'a'"),
        ({"variants": [{"name": "../a"}]}, r"variants\.0\.name: .* match pattern"),
        ({"variants": [{"name": "a", "sets": {}}]}, r"variants\.0\.sets: .*not permitted"),
        ({"variants": [{"name": "a", "set": {"epoch": 1}}]}, "a of own: .* did you mean"),
        ({"variants": [{"name": "a", "set": {"epochs": 0}}]}, r"a of own: .*training\.epochs"),
        ({"recipe": "nobody"}, "unknown recipe 'nobody'"),
        ({"title": None}, "title: "),
    ],
)
def test_load_says_what_is_wrong(document, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        grids.load(written(document | change, tmp_path))


def test_load_refuses_what_is_no_grid(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match="is not a grid: expected a mapping"):
        grids.load(path)
    path.write_text("a: [")
    with pytest.raises(ValueError, match="is not YAML"):
        grids.load(path)
    with pytest.raises(FileNotFoundError):
        grids.load(tmp_path / "gone.yaml")
    with pytest.raises(ValueError, match=r"unknown grid 'ntu': expected .* ntu60-adjacency, "):
        grids.get("ntu")


def test_grids_can_be_made_in_a_notebook(document):
    assert Grid.model_validate(document).variants[1].set == {"epochs": 2}
