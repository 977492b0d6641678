import numpy as np
import pytest

from msg3d_lab import skeletons
from msg3d_lab.data import Clip, open_store, write_store
from msg3d_lab.data.datasets import DATASETS
from msg3d_lab.training import recipes
from msg3d_lab.training.matching.recipe import (
    check_settings,
    fitting_settings,
    preparation_fault,
    recipe_for,
    store_notes,
)
from msg3d_lab.training.setup import open_store_for


@pytest.fixture
def store_of(tmp_path, toy_skeleton):
    """Write a store of given (class, split, persons)."""

    def write(*clips, channels=3, names=("a", "b", "c"), **preparation):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.arrow"
        return open_store(
            write_store(
                path,
                [
                    Clip(f"clip{i}", np.ones((persons, 4, 5, channels), np.float32), label, split)
                    for i, (label, split, persons) in enumerate(clips)
                ],
                dataset="mine",
                skeleton=toy_skeleton,
                label_names=names,
                channels=channels,
                preparation={"name": "none", **preparation},
            )
        )

    return write


TWO = [(label, (split,), 1) for label in (0, 1) for split in ("train", "val", "test")]


@pytest.mark.parametrize(
    ("splits", "chosen"),
    [
        (("train", "test", "val"), ("train", "test")),
        (("train", "val"), ("train", "val")),
        (("Training", "Testing"), ("Training", "Testing")),
        (("a_train", "a_val", "xsub_train", "xsub_val"), ("xsub_train", "xsub_val")),
        (("fold-train", "fold-test", "rest"), ("fold-train", "fold-test")),
    ],
)
def test_recipe_for_finds_the_splits_by_their_names(splits, chosen, store_of):
    store = store_of((0, splits, 1), (1, splits, 1))
    data = recipe_for(store).data
    assert (data.train_split, data.test_split) == chosen


def test_recipe_for_fits_the_store(store_of):
    store = store_of(*TWO, channels=2)
    recipe = recipe_for(store, like="nw-ucla-bone")
    # The longest distance of toy5 is 2 edges; nw-ucla is rotated about x and y.
    assert recipe.model.num_gcn_scales == recipe.model.num_g3d_scales == 3
    assert (recipe.data.dataset, recipe.data.layout) == ("mine", "toy5")
    assert (recipe.data.stream, recipe.model.edge_set) == ("joint", None)
    assert recipe.data.rotation == (0, 0, 0)
    assert recipe.data.clip_len == recipes.get("nw-ucla-joint").data.clip_len
    assert fitting_settings(recipe, store) == {}
    assert recipe_for(store).source.startswith("ntu60-xsub-2d-joint")
    assert recipe_for(store, name="own", settings={"epochs": 3}).training.epochs == 3


@pytest.fixture
def ntu_store(tmp_path):
    """A store of two NTU names with a given preparation."""

    def write(name, **preparation):
        path = tmp_path / f"{name}.arrow"
        clips = [
            Clip(ntu, np.ones((1, 4, 25, 3), np.float32), label, (f"xsub_{part}",))
            for label, ntu in enumerate(("S001C001P001R001A001", "S001C001P001R001A002"))
            for part in ("train", "val")
            for ntu in (ntu.replace("P001", "P003") if part == "val" else ntu,)
        ]
        facts = {"dataset": "ntu60", "skeleton": skeletons.get("ntu25"), "channels": 3}
        names = DATASETS["ntu60"].label_names
        preparation = {"name": name, **preparation}
        write_store(path, clips, label_names=names, preparation=preparation, **facts)
        return open_store(path)

    return write


def test_check_settings_refuses_another_preparation_with_the_command_that_makes_the_right(
    ntu_store,
):
    paper, openmmlab = recipes.get("ntu60-xsub-3d-bone-paper"), recipes.get("ntu60-xsub-3d-bone")
    aligned = ntu_store("prepare_3d", bodies="energy")
    check_settings(openmmlab, aligned)
    command = (
        "`msg3d-lab data import nturgbd_skeletons_s001_to_s017.zip --dataset ntu60 --prepare paper "
        "--out data/ntu60-3d-paper.arrow`"
    )
    with pytest.raises(ValueError, match="needs clips prepared by prepare_paper with bodies by"):
        check_settings(paper, aligned)
    for fault in (
        preparation_fault(paper, aligned),
        preparation_fault(paper, ntu_store("prepare_paper", bodies="denoise")),
    ):
        assert command in fault
    assert "were by prepare_paper with bodies by denoise: " in fault
    with pytest.raises(ValueError, match=command.replace(".", r"\.")):
        open_store_for(paper, aligned)
    with pytest.raises(FileNotFoundError, match=command.replace(".", r"\.")):
        open_store_for(paper)
    check_settings(recipes.with_settings(paper, ["preparation=null"]), aligned)


def test_check_settings_takes_the_authors_own_arrays_for_the_papers(ntu_store):
    paper, openmmlab = recipes.get("ntu60-xsub-3d-bone-paper"), recipes.get("ntu60-xsub-3d-bone")
    for store in (ntu_store("2s-AGCN"), ntu_store("prepare_paper", bodies="energy")):
        check_settings(paper, store)
        with pytest.raises(ValueError, match=r"import data/ntu60_3d\.pkl --dataset ntu60 --out"):
            check_settings(openmmlab, store)
        assert recipe_for(store, like=openmmlab).data.preparation is None


def test_fitting_settings_takes_the_persons_of_most_clips(store_of, toy_recipe):
    many = [(i % 2, ("xsub_train", "xsub_val"), 3) for i in range(39)]
    store = store_of(*many, (0, ("xsub_train",), 9))
    assert fitting_settings(toy_recipe, store)["num_persons"] == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "nw-ucla"}, r"is for nw-ucla, .*; set dataset=toy \(--set\), or write .* new"),
        ({"layout": "hand21"}, r"needs joints of hand21, but .*; set layout=toy5 \(--set\)"),
        ({"test_split": "val"}, r"needs the split val, but .* has xsub_train, xsub_val; set test"),
        ({"edge_set": "star"}, r"has edge_set=star, but .* a single edge set; set edge_set=null"),
    ],
)
def test_check_settings_names_the_settings_to_change(settings, message, toy_recipe, toy_store):
    recipe = recipes.with_settings(toy_recipe, settings)
    with pytest.raises(ValueError, match=message):
        check_settings(recipe, toy_store)
    check_settings(recipes.with_settings(recipe, fitting_settings(recipe, toy_store)), toy_store)


def test_recipe_for_needs_splits_and_classes(store_of):
    with pytest.raises(ValueError, match="fill in the column `splits`"):
        recipe_for(store_of((0, (), 1), (1, (), 1)))
    store = store_of((0, ("one", "two"), 1), (1, ("one", "two"), 1))
    with pytest.raises(ValueError, match=r"\(one, two\) do not say which .*--set train_split="):
        recipe_for(store)
    chosen = {"train_split": "one", "test_split": "two"}
    assert recipe_for(store, settings=chosen).data.test_split == "two"
    with pytest.raises(ValueError, match=r"of one class \(b\): there is nothing to tell apart"):
        recipe_for(store_of((1, ("train", "test"), 1)))


def test_store_notes_name_surplus_persons_and_classes_that_are_not_trained(store_of):
    store = store_of((0, ("train",), 4), (1, ("train", "test"), 1), (2, ("test",), 3))
    recipe = recipe_for(store, settings={"num_persons": 2})
    persons, untrained, untested = store_notes(recipe, store)
    assert persons.startswith("2 of 3 clips have more persons than num_persons=2: 3 persons are")
    assert "the first are kept" in persons
    assert persons.endswith("num_persons=4 keeps all")
    assert untrained.startswith("1 of 3 classes are tested but not trained")
    assert "(c)" in untrained
    assert "trained but not tested (a)" in untested


def test_store_notes_have_nothing_to_say_of_a_whole_store(toy_recipe, toy_store):
    assert store_notes(toy_recipe, toy_store) == []
