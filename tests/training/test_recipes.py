import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from msg3d_lab import MSG3D
from msg3d_lab.data.batches.augment import Augment
from msg3d_lab.experiments import grids
from msg3d_lab.training import recipes
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.settings import OLD_NAMES
from msg3d_lab.training.setup import build_batches

# The settings of synthetic-joint until 2026-11-27 and 2026-11-25, of which results were recorded.
SECOND_DEMO = ["clip_len=32", "base_channels=18", "tcn_dilations=[1, 2, 3, 4]"]
FIRST_DEMO = [
    *SECOND_DEMO,
    "optimizer=sgd",
    "learning_rate=0.05",
    "weight_decay=0.0005",
    "clip_norm=0",
    "validate_every=2",
]
MIRRORED_UCLA = ["flip=0.5", "epochs=18"]  # tried with nw-ucla-wide-joint: docs/results.md
# The earlier settings of nw-ucla-*-compact of which results were recorded.
SECOND_UCLA = ["rotation=[60, 60, 0]", "epochs=6"]
FIRST_UCLA = [
    "rotation=[60, 60, 0]",
    "clip_len=52",
    "base_channels=48",
    "epochs=8",
    "batch_size=32",
    "base_batch_size=32",
    "optimizer=sgd",
    "learning_rate=0.1",
    "weight_decay=0.0004",
    "clip_norm=0",
]
# What the recipes of NTU did not set until 2026-11-27.
UNSET = {
    "preparation": None,
    "initialization": "pytorch",
    "sync_norm": True,
    "average_statistics": False,
}
UNSET_PAPER = {**UNSET, "batch_size": 32, "accumulate": 1}
OLD_HASH = "851c78f5aee3"  # of three changed settings, from before they were renamed


@pytest.mark.parametrize("name", recipes.names())
def test_get_recipes_are_whole(name):
    recipe = recipes.get(name)
    assert recipe.name == name
    again = Recipe.model_validate(yaml.safe_load(recipes.to_yaml(recipe)))
    assert again == recipe
    assert again.hash == recipe.hash


def test_get_recipes_build():
    """Every network once: siblings on other streams and splits have the same."""
    networks = {(r.data.layout, r.model) for r in map(recipes.get, recipes.names())}
    for layout, model in networks:
        MSG3D(num_classes=3, skeleton=layout, **{**model.model_dump(), "base_channels": 6})


def test_names_hold_the_recipes_of_the_field():
    names = set(recipes.names())
    streams = ["joint", "bone", "joint-motion", "bone-motion"]
    for stream in streams:
        for split in ("ntu60-xsub", "ntu60-xview", "ntu120-xsub", "ntu120-xset"):
            assert {f"{split}-2d-{stream}", f"{split}-3d-{stream}"} <= names
        assert {f"{data}-{stream}" for data in ("synthetic", "nw-ucla", "utd-mhad")} <= names
        assert f"utd-mhad-{stream}-compact" in names
        for split in ("ntu60-xsub", "ntu60-xview", "ntu120-xsub", "ntu120-xset"):
            assert {f"{split}-3d-{stream}-paper", f"{split}-3d-{stream}-pyskl"} <= names
            assert f"{split}-2d-{stream}-pyskl" in names
        assert f"kinetics400-{stream}-paper" in names


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
    assert (training.learning_rate, training.base_batch_size) == (0.1, 128)
    assert training.epochs * training.repeat == 80
    assert (training.momentum, training.weight_decay) == (0.9, 5e-4)
    assert (recipe.model.edge_set, recipe.model.normalization) == ("star", "column")


def test_get_paper_recipe_is_the_published_one():
    recipe = recipes.get("ntu60-xsub-3d-joint-paper")
    assert (recipe.data.clip_len, recipe.data.sampling) == (300, "replay")
    training = recipe.training
    assert (training.learning_rate, training.base_batch_size, training.epochs) == (0.05, 32, 50)
    assert (training.batch_size, training.accumulate) == (16, 2)
    assert training.milestones == (30, 40)
    assert (recipe.model.edge_set, recipe.model.normalization) == ("chain", "symmetric")


@pytest.mark.parametrize(
    ("name", "epochs", "milestones", "rate", "decay", "clips", "scales"),
    [
        ("ntu60-xview-3d-bone-paper", 50, (30, 40), 0.05, 5e-4, 32, (13, 6)),
        ("ntu120-xset-3d-joint-paper", 60, (30, 50), 0.05, 5e-4, 32, (13, 6)),
        ("kinetics400-bone-paper", 65, (45, 55), 0.1, 3e-4, 128, (8, 8)),
    ],
)
def test_get_author_s_recipes_have_the_settings_of_his_files(
    name, epochs, milestones, rate, decay, clips, scales
):
    """Source: kenziyuliu/MS-G3D `config/*/train_*.yaml`; all normalise 16 clips at a time."""
    recipe = recipes.get(name)
    data, model, training = recipe.data, recipe.model, recipe.training
    assert (training.epochs, training.milestones) == (epochs, milestones)
    assert (training.learning_rate, training.weight_decay) == (rate, decay)
    assert training.batch_size == 16
    assert training.batch_size * training.accumulate == training.base_batch_size == clips
    assert (model.num_gcn_scales, model.num_g3d_scales) == scales
    assert (data.clip_len, data.sampling) == (300, "replay")
    kinetics = name.startswith("kinetics")
    assert data.bone_scores == ("difference" if kinetics else "mean")
    assert data.preparation == (None if kinetics else "prepare_paper")
    assert training.initialization == "pytorch"


def test_get_pyskl_s_recipes_differ_from_mmaction2_s_where_pyskl_does():
    for layout, preparation in (("2d", "prepare_2d_pyskl"), ("3d", "prepare_3d")):
        one = recipes.get(f"ntu120-xset-{layout}-bone")
        other = recipes.get(f"ntu120-xset-{layout}-bone-pyskl")
        found = {name: value for name, _, value in recipes.differing_settings(one, other)}
        expected = {
            "data.sampling": "uniform_pyskl",
            "training.average_statistics": False,
            "training.initialization": "pyskl",
        }
        if layout == "2d":
            expected["data.preparation"] = preparation
        assert {n: v for n, v in found.items() if n not in ("name", "source")} == expected
        assert other.data.preparation == preparation


@pytest.mark.parametrize(
    "name", [n for n in recipes.names() if recipes.get(n).training.optimizer == "sgd"]
)
def test_get_recipes_train_plainly(name):
    """As published: what the field adds to them is there to be switched on."""
    data, training = recipes.get(name).data, recipes.get(name).training
    assert data.validation_subjects == ()
    assert training.betas == (0.9, 0.999)
    paper = 8 if name.startswith("kinetics") else 2
    assert training.accumulate == (paper if name.endswith("-paper") else 1)
    assert (training.clip_norm, training.ema_decay) == (0, 0)
    assert (training.keep, training.patience, training.recompute) == ("last", 0, False)
    assert not training.chooses


def test_with_settings_switches_everything_on_and_round_trips(tmp_path):
    recipe = recipes.with_settings(
        recipes.get("ntu60-xsub-3d-joint"),
        [
            "validation_subjects=[1, 38]",
            "optimizer=adamw",
            "betas=[0.9, 0.98]",
            "clip_norm=1",
            "accumulate=4",
            "ema_decay=0.999",
            "keep=best",
            "patience=5",
            "recompute=true",
        ],
    )
    training = recipe.training
    assert recipe.data.validation_subjects == (1, 38)
    assert (training.optimizer, training.betas, training.clip_norm) == ("adamw", (0.9, 0.98), 1)
    assert (training.accumulate, training.ema_decay) == (4, 0.999)
    assert (training.keep, training.patience, training.recompute) == ("best", 5, True)
    assert training.chooses
    recipes.save(recipe, tmp_path / "mine.yaml")
    again = recipes.load(tmp_path / "mine.yaml")
    assert again == recipe
    assert again.hash == recipe.hash != recipes.get("ntu60-xsub-3d-joint").hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["keep=best"], "keep=best with patience=0 chooses by accuracy, and test data must choose"),
        (["patience=3"], r"name some subjects of the training split in validation_subjects"),
        (
            ["keep=best", "validation_subjects=[1]", "validate_every=0"],
            "keep=best with patience=0 chooses between epochs, found validate_every=0",
        ),
    ],
)
def test_with_settings_lets_test_data_choose_nothing(changes, message):
    with pytest.raises(ValueError, match=message):
        recipes.with_settings(recipes.get("synthetic-joint"), changes)


def test_with_settings_refuses_test_clips_that_are_all_the_same():
    recipe = recipes.get("nw-ucla-joint-compact")
    assert recipes.with_settings(recipe, ["test_clips=8"]).test_clips == 8
    uniform = {"test_clips": 8, "sampling": "uniform", "rotation": [0, 0, 0]}
    assert recipes.with_settings(recipe, uniform).test_clips == 8
    with pytest.raises(ValueError, match=r"test_clips=8 with sampling=resize .* the same clip"):
        recipes.with_settings(recipe, uniform | {"sampling": "resize"})


@pytest.mark.parametrize("name", recipes.names())
def test_get_recipes_augment_on_nw_ucla_and_utd_mhad_only(name):
    ucla = Augment(rotation=(60, 60, 0), scale=(0.5, 1.5))
    aligned = Augment(rotation=(20, 20, 20), scale=(0.5, 1.5))
    utd = Augment(rotation=(20, 20, 0), scale=(0.5, 1.5))
    compact = Augment(rotation=(30, 180, 10), scale=(0.5, 1.5))
    known = {"nw-ucla-aligned": aligned, "nw-ucla-wide": compact, "nw-ucla": ucla, "utd-mhad": utd}
    if name.endswith("compact"):
        known["nw-ucla"] = compact
    expected = next((known[row] for row in known if name.startswith(row)), Augment())
    assert recipes.get(name).data.augment == expected


def test_get_wide_recipe_differs_from_the_compact_one_in_what_it_says():
    compact, wide = recipes.get("nw-ucla-bone-compact"), recipes.get("nw-ucla-wide-bone")
    found = {name for name, _, _ in recipes.differing_settings(compact, wide)}
    assert found == {"name", "model.base_channels", "training.learning_rate"}


def test_get_ctr_gcn_recipe_is_the_published_one():
    recipe = recipes.get("nw-ucla-joint")
    data, training = recipe.data, recipe.training
    assert (data.clip_len, data.sampling, data.rescale) == (52, "resize", "minmax")
    assert (recipe.model.num_persons, recipe.test_clips) == (1, 1)
    assert (training.learning_rate, training.batch_size, training.weight_decay) == (0.1, 16, 1e-4)
    assert (training.epochs, training.repeat, training.warmup_epochs) == (65, 5, 5)
    assert (training.schedule, training.milestones) == ("steps", (50,))


def test_build_batches_takes_the_recipe_s_settings(toy_recipe, toy_store):
    recipe = recipes.with_settings(
        toy_recipe,
        ["flip=0.5", "crop=[0.5, 1]", "shear=0.2", "joint_masking=0.1", "frame_masking=0.2"],
    )
    batches, held_out = build_batches(recipe, toy_store, rank=1, world_size=2)
    assert batches.augment == Augment(
        flip=0.5, crop=(0.5, 1), shear=0.2, joint_masking=0.1, frame_masking=0.2
    )
    assert (batches.rank, batches.world_size, batches.seed) == (1, 2, 1)
    x = batches.batch(0, epoch=0).x
    assert x.shape == (8, 2, 8, 5, 3)
    assert (x == 0).all(axis=(1, 3, 4)).sum(axis=1).min() >= 2  # frames hidden
    assert (held_out.batch_size, held_out.num_clips) == (8, 1)
    plain, _ = build_batches(recipes.with_settings(toy_recipe, ["accumulate=3"]), toy_store)
    assert plain.augment == Augment()
    assert plain.batch_size == 24


def test_get_reads_a_file_and_lists_names_otherwise(tmp_path):
    recipe = recipes.get("synthetic-bone")
    recipes.save(recipe, tmp_path / "mine.yaml")
    assert recipes.get(str(tmp_path / "mine.yaml")) == recipe
    with pytest.raises(ValueError, match=r"unknown recipe 'ntu61'.*ntu60-xsub-2d-joint"):
        recipes.get("ntu61")
    with pytest.raises(ValueError, match=r"did you mean synthetic-bone, [^,]*, [^,]*\?$"):
        recipes.get("synthetic-bon")


@settings(max_examples=200)
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
        ("rotation=[200, 0, 0]", r"data\.rotation\.0.*less than or equal to 180"),
        ("rotation=[0, 0]", r"data\.rotation"),
        ("scale=[1.5, 0.5]", r"data: .*scale: \(smallest, largest\) above 0, found \(1\.5, 0\.5\)"),
        ("scale=[0, 1]", r"data\.scale\.0.*greater than 0"),
        ("shear=-1", r"data\.shear.*greater than or equal to 0"),
        ("flip=2", r"data\.flip.*less than or equal to 1"),
        ("joint_masking=1", r"data\.joint_masking.*less than 1"),
        ("frame_masking=-1", r"data\.frame_masking.*greater than or equal to 0"),
        ("crop=[0.9, 0.5]", r"crop: \(smallest, largest\) in 0\.\.1, found \(0\.9, 0\.5\)"),
        ("crop=[0, 1]", r"data\.crop\.0.*greater than 0"),
        ("optimizer=adam", r"training\.optimizer.*'sgd' or 'adamw'"),
        ("betas=[0.9, 1]", r"training\.betas\.1.*less than 1"),
        ("betas=[0.9]", r"training\.betas"),
        ("clip_norm=-1", r"training\.clip_norm.*greater than or equal to 0"),
        ("accumulate=0", r"training\.accumulate.*greater than or equal to 1"),
        ("ema_decay=1", r"training\.ema_decay.*less than 1"),
        ("keep=worst", r"training\.keep.*'last' or 'best'"),
        ("patience=-1", r"training\.patience.*greater than or equal to 0"),
        ("recompute=maybe", r"training\.recompute.*boolean"),
        ("validation_subjects=[one]", r"data\.validation_subjects\.0.*valid integer"),
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


def test_recorded_results_can_be_traced_to_their_recipes():
    """New settings are off, renamed ones count under their first name: hashes stay."""
    earlier = {
        "synthetic": (SECOND_DEMO, FIRST_DEMO),
        "nw-ucla": (MIRRORED_UCLA, SECOND_UCLA, FIRST_UCLA),
    }
    table = pd.read_csv(Path(__file__).parents[2] / "data" / "results.csv")
    for row in table.itertuples():
        recipe = recipes.get(row.recipe)
        known = [recipes.with_settings(recipe, s) for s in earlier.get(row.dataset, ())]
        assert row.recipe_hash in {recipe.hash, *(one.hash for one in known)}


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        (FIRST_DEMO, "e096b927cbf0"),
        ([*FIRST_DEMO, "average_decay=0.9", "learning_rate_batch=16", "watch_every=1"], OLD_HASH),
        ([*FIRST_DEMO, "ema_decay=0.9", "base_batch_size=16", "validate_every=1"], OLD_HASH),
    ],
)
def test_hash_is_what_earlier_versions_found(settings, known):
    assert recipes.with_settings(recipes.get("synthetic-joint"), settings).hash == known


def test_hash_of_every_recipe_and_variant_is_what_earlier_versions_found():
    """One digest over all hashes of the first recipes, one over those of the first grids.

    With the settings that were added to recipes switched off, they are the first ones.
    """

    def digest(hashes):
        return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:12]

    later = ("utd-mhad", "kinetics", "nw-ucla-aligned", "nw-ucla-wide")
    names = [
        name
        for name in recipes.names()
        if not name.startswith(later) and not name.endswith("-pyskl")
        if not (name.startswith("ntu120") and name.endswith("-paper"))
    ]
    found = {name: recipes.get(name) for name in names}
    for name in found:
        change = UNSET_PAPER if name.endswith("-paper") else UNSET
        change = FIRST_DEMO if name.startswith("synthetic") else change
        change = FIRST_UCLA if name.startswith("nw-ucla") and "compact" in name else change
        found[name] = recipes.with_settings(found[name], change)
    assert digest({name: recipe.hash for name, recipe in found.items()}) == "ad4ad63ed27e"
    variants = {
        f"{name}/{variant.name}": recipes.with_settings(
            grids.build_recipe(grids.get(name), variant),
            UNSET_PAPER if grids.get(name).recipe.endswith("-paper") else UNSET,
        ).hash
        for name in grids.names()
        if not name.startswith("nw-ucla")
        for variant in grids.get(name).variants
    }
    assert digest(variants) == "2c68afd9a2a5"


def test_old_names_of_settings_are_read_and_written_as_the_new(tmp_path):
    recipe = recipes.get("synthetic-joint")
    old = recipes.to_yaml(recipe)
    for first, now in OLD_NAMES.items():
        assert f"  {now}: " in old
        old = old.replace(f"  {now}: ", f"  {first}: ")
    (tmp_path / "old.yaml").write_text(old)
    assert recipes.load(tmp_path / "old.yaml") == recipe
    (tmp_path / "both.yaml").write_text(old.replace("test_clips", "  ema_decay: 0.9\ntest_clips"))
    with pytest.raises(ValueError, match="average_decay and ema_decay are the same setting"):
        recipes.load(tmp_path / "both.yaml")


def test_recipes_from_before_a_setting_are_read_as_they_were_meant(tmp_path):
    recipe = recipes.get("nw-ucla-joint")
    text = recipes.to_yaml(recipe)
    lines = [line for line in text.splitlines() if line.split(":")[0].strip() not in LATER]
    assert len(lines) == len(text.splitlines()) - len(LATER)
    (tmp_path / "old.yaml").write_text("\n".join(lines))
    assert recipes.load(tmp_path / "old.yaml") == recipe


LATER = {
    *("validation_subjects", "shear", "flip", "joint_masking", "frame_masking", "crop"),
    *("accumulate", "optimizer", "betas", "clip_norm", "ema_decay", "keep", "patience"),
    "recompute",
}


def test_a_list_of_one_value_needs_no_brackets():
    recipe = recipes.with_settings(
        recipes.get("synthetic-joint"), ["freeze=block1", "pathways=g3d"]
    )
    assert recipe.training.freeze == ("block1",)
    assert recipe.model.pathways == ("g3d",)
    with pytest.raises(ValueError, match="rotation"):
        recipes.with_settings(recipes.get("synthetic-joint"), ["rotation=20"])
