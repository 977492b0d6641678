import pytest

from msg3d_lab import skeletons
from msg3d_lab.published import read_published
from msg3d_lab.reporting.names import FUSIONS, data_name, input_name
from msg3d_lab.training import recipes

FOUR = "2 joint+2 bone+joint_motion+bone_motion"
COLUMNS = ("joint", "bone", "joint_motion", "bone_motion", "joint+bone", FOUR)
# Typed again from the sources, as a second pair of eyes: what published.csv must hold.
PYSKL = {
    ("ntu60", "xsub", "3D"): "89.6 89.3 87.7 86.7 91.0 91.7",
    ("ntu60", "xsub", "2D"): "92.7 92.8 89.8 90.2 93.8 94.1",
    ("ntu60", "xview", "3D"): "95.9 95.0 94.0 92.4 96.4 96.9",
    ("ntu60", "xview", "2D"): "97.1 97.1 95.9 95.1 97.9 98.3",
    ("ntu120", "xsub", "3D"): "84.0 85.3 82.2 81.5 86.9 87.8",
    ("ntu120", "xsub", "2D"): "85.5 85.0 82.6 82.9 86.7 87.4",
    ("ntu120", "xset", "3D"): "86.0 87.3 82.9 83.2 88.9 89.6",
    ("ntu120", "xset", "2D"): "88.2 88.9 86.6 86.5 90.0 90.9",
}
OTHERS = {
    ("mmaction2", "ntu60", "xsub", "2D", "joint"): 92.3,
    ("mmaction2", "ntu60", "xsub", "3D", "joint"): 89.6,
    ("Liu", "ntu60", "xsub", "3D", "joint"): 89.4,
    ("Liu", "ntu60", "xsub", "3D", "bone"): 90.1,
    ("Liu", "ntu60", "xsub", "3D", "joint+bone"): 91.5,
    ("Liu", "ntu60", "xview", "3D", "joint+bone"): 96.2,
    ("Liu", "ntu120", "xsub", "3D", "joint+bone"): 86.9,
    ("Liu", "ntu120", "xset", "3D", "joint+bone"): 88.4,
    ("author", "kinetics400", "kinetics", "2D", "joint"): 35.8,
    ("author", "kinetics400", "kinetics", "2D", "bone"): 35.4,
    ("author", "kinetics400", "kinetics", "2D", "joint+bone"): 38.0,
    ("a", "ntu120", "xsub", "3D", "joint"): 83.32,
    ("a", "ntu120", "xsub", "3D", "bone"): 85.88,
    ("a", "ntu120", "xset", "3D", "joint"): 84.44,
    ("a", "ntu120", "xset", "3D", "bone"): 87.39,
    ("author", "ntu120", "xsub", "3D", "joint"): 83,
    ("author", "ntu120", "xsub", "3D", "bone"): 85.6,
    ("author", "ntu120", "xsub", "3D", "joint+bone"): 86.9,
    ("author", "ntu120", "xset", "3D", "joint"): 84.4,
    ("author", "ntu120", "xset", "3D", "bone"): 87.3,
    ("author", "ntu120", "xset", "3D", "joint+bone"): 88.4,
    ("score", "nw-ucla", "xview", "3D", "joint"): 90.93,
    ("score", "nw-ucla", "xview", "3D", "bone"): 90.06,
    ("score", "nw-ucla", "xview", "3D", "joint+bone"): 92.66,
}
OTHER_MODELS = {
    ("CTR-GCN", "four streams"): [92.4, 96.8, 88.9, 90.6],
    ("ProtoGCN", "six streams"): [93.8, 97.8, 90.9, 92.2],
    ("SkeletonAgent", "joint"): [92.8, 97.4, 87.4, 89.6],
    ("SkeletonAgent", "six streams"): [94.5, 98.2, 91.7, 93.1],
}


@pytest.fixture(scope="module")
def published():
    return read_published()


def first_word(text):
    return text.replace(",", " ").split(" ")[0]


def test_published_holds_every_number_of_the_field_once(published):
    ours = published[published["model"] == "MS-G3D"]
    found = {
        (first_word(r.source), r.dataset, r.split, r.input[:2], r.streams): r.top1_percent
        for r in ours.itertuples()
    }
    expected = dict(OTHERS)
    for key, line in PYSKL.items():
        for streams, value in zip(COLUMNS, map(float, line.split()), strict=True):
            expected[("pyskl", *key, streams)] = value
    assert found == expected
    assert len(ours) == len(expected)


def test_published_holds_other_models_for_orientation(published):
    others = published[published["model"] != "MS-G3D"]
    ntu = others[others["dataset"].str.startswith("ntu")]
    found = ntu.groupby(["model", "streams"], sort=False)["top1_percent"].agg(list).to_dict()
    assert found == OTHER_MODELS
    ucla = others[others["dataset"] == "nw-ucla"]
    assert ucla["top1_percent"].tolist() == [96.5]


def test_published_names_recipes_that_exist_and_are_of_that_row(published):
    for row in published.itertuples():
        streams = list(FUSIONS.get(row.streams, [row.streams]))
        names = row.recipe.split("+") if row.recipe else []
        assert not names or len(names) == len(streams), row
        for name, stream in zip(names, streams, strict=bool(names)):
            recipe = recipes.get(name)
            data = recipe.data
            assert (data.dataset, data.stream) == (row.dataset, stream)
            assert data.test_split == f"{row.split}_val"
            assert input_name(data.layout) == row.input
            assert recipe.test_clips == int(row.test_clips)
            assert (recipe.model.edge_set or "") == row.edge_set or data.layout == "coco17"
            assert name.endswith("-pyskl") == row.source.startswith("pyskl")
            assert name.endswith("-paper") == ("author" in row.source or "CVPR" in row.source)


def test_published_has_a_source_for_every_row_and_known_words(published):
    assert (published["source"] != "").all()
    for row in published.itertuples():
        assert row.reference.startswith("https://") or "stored" in row.source
        assert row.dataset in {"ntu60", "ntu120", "nw-ucla", "kinetics400"}
        assert row.edge_set in {"", *skeletons.edge_sets("ntu25")}
    others = published[published["model"] != "MS-G3D"]
    assert (others[["recipe", "edge_set", "test_clips"]] == "").all(axis=None)


def test_read_published_refuses_another_table(published, tmp_path):
    with pytest.raises(FileNotFoundError, match="no table of published numbers"):
        read_published(tmp_path / "none.csv")
    published.drop(columns="note").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match="expected the columns model, source"):
        read_published(tmp_path / "a.csv")
    published.assign(top1_percent=[0.9, 189.4, *published["top1_percent"][2:]]).to_csv(
        tmp_path / "b.csv", index=False
    )
    with pytest.raises(ValueError, match="row 2: expected a top-1 from 0 to 100"):
        read_published(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        (("ntu60", "xview", "3D (ntu25)"), "NTU60 X-View 3D"),
        (("kinetics400", "kinetics", "2D (OpenPose, openpose18)"), "Kinetics400 2D"),
        (("mine", "holdout", "mine9"), "mine holdout mine9"),
    ],
)
def test_data_name(arguments, label):
    assert data_name(*arguments) == label
    assert data_name(*arguments, synthetic=True) == f"{label} (synthetic)"


def test_input_name_of_layouts():
    assert input_name("ntu25") == "3D (ntu25)"
    assert input_name("coco17") == "2D (HRNet, coco17)"
    assert input_name("mine9") == "mine9"
