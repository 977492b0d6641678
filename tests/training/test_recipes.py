import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from msg3d_lab import MSG3D
from msg3d_lab.training import recipes
from msg3d_lab.training.recipes import Recipe


@pytest.mark.parametrize("name", recipes.names())
def test_get_recipes_are_whole_and_build(name):
    recipe = recipes.get(name)
    assert recipe.name == name
    again = Recipe.model_validate(yaml.safe_load(recipes.to_yaml(recipe)))
    assert again == recipe
    assert again.hash == recipe.hash
    arguments = recipe.model.model_dump()
    arguments["base_channels"] = 6
    MSG3D(num_classes=3, skeleton=recipe.data.layout, **arguments)


def test_names_hold_the_recipes_of_the_field():
    names = set(recipes.names())
    streams = ["joint", "bone", "joint-motion", "bone-motion"]
    for stream in streams:
        for split in ("ntu60-xsub", "ntu60-xview", "ntu120-xsub", "ntu120-xset"):
            assert {f"{split}-2d-{stream}", f"{split}-3d-{stream}"} <= names
        assert {f"synthetic-{stream}", f"nw-ucla-{stream}"} <= names
        assert f"ntu60-xsub-3d-{stream}-paper" in names


def test_get_siblings_differ_in_what_their_name_says():
    one, other = recipes.get("ntu60-xsub-3d-joint"), recipes.get("ntu120-xset-3d-bone-motion")
    assert other.data.stream == "bone_motion"
    assert (other.data.train_split, other.data.test_split) == ("xset_train", "xset_val")
    assert other.data.dataset == "ntu120"
    assert (one.model, one.training) == (other.model, other.training)
    assert str(other.default_store) == "data/ntu120-3d.arrow"


def test_get_openmmlab_recipe_is_the_published_one():
    recipe = recipes.get("ntu60-xsub-3d-joint")
    assert (recipe.data.clip_len, recipe.model.num_persons, recipe.test_clips) == (100, 2, 10)
    training = recipe.training
    assert (training.learning_rate, training.learning_rate_batch) == (0.1, 128)
    assert training.epochs * training.repeat == 80
    assert (training.momentum, training.weight_decay) == (0.9, 5e-4)
    assert (recipe.model.edge_set, recipe.model.normalization) == ("star", "column")


def test_get_paper_recipe_is_the_published_one():
    recipe = recipes.get("ntu60-xsub-3d-joint-paper")
    assert (recipe.data.clip_len, recipe.data.sampling) == (300, "replay")
    training = recipe.training
    assert (training.learning_rate, training.batch_size, training.epochs) == (0.05, 32, 50)
    assert training.milestones == (30, 40)
    assert (recipe.model.edge_set, recipe.model.normalization) == ("chain", "symmetric")


def test_get_reads_a_file_and_lists_names_otherwise(tmp_path):
    recipe = recipes.get("synthetic-bone")
    recipes.save(recipe, tmp_path / "mine.yaml")
    assert recipes.get(str(tmp_path / "mine.yaml")) == recipe
    with pytest.raises(ValueError, match=r"unknown recipe 'ntu61'.*ntu60-xsub-2d-joint"):
        recipes.get("ntu61")


@settings(max_examples=500)
@example("\x85")
@example("a #b: c")
@given(st.text())
def test_to_yaml_keeps_any_text(text):
    recipe = recipes.get("synthetic-joint").model_copy(update={"name": text, "source": text})
    again = Recipe.model_validate(yaml.safe_load(recipes.to_yaml(recipe)))
    assert again == recipe


def test_hash_changes_with_settings_but_not_with_the_seed():
    recipe = recipes.get("synthetic-joint")
    assert recipes.with_settings(recipe, ["seed=7"]).hash == recipe.hash
    assert recipes.with_settings(recipe, ["epochs=7"]).hash != recipe.hash


def test_with_settings_takes_yaml_values_and_short_names():
    recipe = recipes.with_settings(
        recipes.get("synthetic-joint"),
        [
            "window_sizes=[3, 5]",
            "model.window_dilations=[1,2]",
            "edge_set=null",
            "weight_decay=1e-3",
            "test_clips=4",
            "name=mine",
        ],
    )
    assert recipe.model.window_sizes == (3, 5)
    assert recipe.model.edge_set is None
    assert recipe.training.weight_decay == 1e-3
    assert (recipe.test_clips, recipe.name) == (4, "mine")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "expected key=value, found 'epochs'"),
        ("epoch=3", r"unknown setting 'epoch': did you mean training\.epochs"),
        ("data.epochs=3", r"did you mean training\.epochs"),
        ("zzz=3", "unknown setting 'zzz'"),
        ("epochs=many", r"training\.epochs.*valid integer.*'many'"),
        ("epochs=0", r"training\.epochs.*greater than or equal to 1"),
        ("stream=skin", r"data\.stream.*'joint'"),
        ("window_sizes=[3, 5]", "must have the same length"),
        ("window_sizes=[0]", r"model\.window_sizes\.0.*greater than or equal to 1"),
        ("scale=[0.5", r"the value of 'scale=\[0\.5' is not YAML"),
        ("learning_rate=.inf", r"training\.learning_rate.*finite"),
        ("rotation=[.nan, 0, 0]", r"data\.rotation.*finite"),
    ],
)
def test_with_settings_explains_what_is_wrong(setting, message):
    with pytest.raises(ValueError, match=message):
        recipes.with_settings(recipes.get("synthetic-joint"), [setting])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("epochs:", "epohcs:"), r"training\.epochs: Field required.*epohcs"),
        (lambda t: t.replace("name:", "nmae:"), "nmae"),
        (lambda t: "[1, 2]", "expected a mapping"),
        (lambda t: t + "\n  x: [", "is not YAML"),
    ],
)
def test_load_explains_what_is_wrong(change, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(change(recipes.to_yaml(recipes.get("synthetic-joint"))))
    with pytest.raises(ValueError, match=message) as error:
        recipes.load(path)
    assert "mine.yaml" in str(error.value)
