import math

import pandas as pd
import pytest
from made_runs import made_run

from msg3d_lab import skeletons
from msg3d_lab.reporting.measured import FUSIONS, find_runs, input_of, measured
from msg3d_lab.reporting.tables import (
    data_label,
    percent,
    project_tables,
    read_published,
    streams_overview,
    streams_table,
)
from msg3d_lab.training import recipes

FOUR = "2 joint+2 bone+joint_motion+bone_motion"
COLUMNS = ("joint", "bone", "joint_motion", "bone_motion", "joint+bone", FOUR)
# Typed again from the sources, as a second pair of eyes: what data/published.csv must hold.
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
    ("Liu", "kinetics400", "kinetics", "2D", "joint+bone"): 38.0,
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
def published(request):
    return read_published(request.config.rootpath / "data/published.csv")


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
    assert ucla["top1_percent"].tolist() == [93.75, 96.5]


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
            assert input_of(data.layout) == row.input
            assert recipe.test_clips == int(row.test_clips)
            assert (recipe.model.edge_set or "") == row.edge_set or data.layout == "coco17"


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


def test_nothing_measured_is_not_run_everywhere(published):
    table = streams_table(published, measured([]))
    ours = published[published["model"] == "MS-G3D"]
    assert len(table) == len(ours)
    assert sorted(table["published"]) == sorted(ours["top1_percent"])
    assert table["measured"].isna().all()
    assert (table["seeds"] == 0).all()
    overview = streams_overview(table)
    here = overview[overview["source"] == "measured here"]
    assert (here.drop(columns=["data", "source"]) == "not run").all(axis=None)
    assert here["data"].tolist() == list(dict.fromkeys(table["data"]))
    for tables in project_tables(published, measured([])).values():
        assert tables["top1 acc"].tolist()[1:] == ["not run"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two seeds of joint, one of bone, a changed recipe and synthetic data."""
    folder = tmp_path_factory.mktemp("runs")
    made_run(folder / "j1", right=0.6)
    made_run(folder / "j2", settings=["seed=2"], right=0.9, seed=7)
    made_run(folder / "b1", "ntu60-xsub-3d-bone", seed=3)
    made_run(folder / "changed", settings=["learning_rate=0.2"])
    made_run(folder / "s", "synthetic-joint")
    return measured(find_runs(folder))


def line_of(table, **wanted):
    chosen = table
    for name, value in wanted.items():
        chosen = chosen[chosen[name].str.startswith(value)]
    assert len(chosen) == 1, chosen
    return chosen.iloc[0]


def test_streams_table_sets_measured_beside_published(published, results):
    table = streams_table(published, results)
    single = results[(results["streams"] == "joint") & results["of_library"]]
    tops = single[single["dataset"] == "ntu60"]["top1"]
    at = {"data": "NTU60 X-Sub 3D", "streams": "joint"}
    ours = table[(table["data"] == at["data"]) & (table["streams"] == "joint")]
    line = line_of(ours, source="pyskl")
    assert (line["seeds"], line["clips"]) == (2, "10")
    assert line["measured"] == pytest.approx(tops.mean())
    assert line["sd"] == pytest.approx(tops.std(ddof=1))
    assert line["difference"] == pytest.approx(tops.mean() - 89.6)
    assert math.isnan(line_of(ours, source="Liu")["measured"])  # another recipe
    changed = line_of(ours, recipe="ntu60-xsub-3d-joint (changed: ")
    assert math.isnan(changed["published"])
    assert changed["seeds"] == 1
    assert math.isnan(changed["sd"])


def test_streams_table_fuses_matching_seeds_only(published, results):
    table = streams_table(published, results)
    line = line_of(table, data="NTU60 X-Sub 3D", streams="two-stream", source="pyskl")
    assert line["seeds"] == 1
    fused = results[(results["streams"] == "joint+bone") & (results["dataset"] == "ntu60")]
    assert line["measured"] == pytest.approx(fused["top1"].item())
    assert line["recipe"] == "ntu60-xsub-3d-*"


def test_streams_table_calls_synthetic_data_so_and_never_meets_a_published_number(
    published, results
):
    pretended = results.assign(synthetic=True)
    table = streams_table(published, pretended)
    assert table[table["seeds"] > 0]["published"].isna().all()
    assert table[table["seeds"] > 0]["data"].str.contains("synthetic").all()


def test_streams_overview_has_a_row_per_source(published, results):
    overview = streams_overview(streams_table(published, results))
    rows = overview[overview["data"] == "NTU60 X-Sub 3D"].set_index("source")
    assert rows.loc["pyskl configs/msg3d README", "four-stream"] == "91.7"
    assert rows.loc["mmaction2 projects/msg3d README", "bone"] == ""
    ours = rows.loc["measured here, ntu60-xsub-3d-*, 10 clips"]
    assert ours["joint"].endswith("(2 seeds)")
    assert ours["bone"].endswith("(1 seed)")
    assert ours["four-stream"] == "not run"
    assert "measured here, ntu60-xsub-3d-* changed, 10 clips" in rows.index


def test_project_tables_are_those_of_the_seed_system(published, results):
    tables = project_tables(published, results)
    assert list(tables)[:2] == ["NTU60_XSub_2D", "NTU60_XSub_3D"]
    assert "synthetic_XSub_3D" in tables
    columns = ["frame sampling", "modality", "devices", "backbone", "top1 acc"]
    columns += ["testing protocol", "recipe", "checkpoint", "log", "source"]
    for table in tables.values():
        assert list(table.columns) == columns
    flat = tables["NTU60_XSub_2D"]
    assert flat["top1 acc"].tolist() == [92.3, "not run"]
    assert flat["frame sampling"].tolist() == ["uniform 100"] * 2
    assert flat["checkpoint"][0].endswith("2d_20230309-73b97296.pth")
    assert flat["checkpoint"][1] == ""
    solid = tables["NTU60_XSub_3D"]
    assert solid["source"].tolist()[1:].count("measured here, seed 1") == 3
    assert "not run" not in solid["top1 acc"].tolist()
    assert solid["testing protocol"].tolist() == ["10 clips"] * 5
    assert solid["checkpoint"].str.endswith((".pth", "model.safetensors")).all()


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        (("ntu60", "xview", "3D (ntu25)"), "NTU60 X-View 3D"),
        (("kinetics400", "kinetics", "2D (OpenPose, openpose18)"), "Kinetics400 2D"),
        (("mine", "holdout", "mine9"), "mine holdout mine9"),
    ],
)
def test_data_label(arguments, label):
    assert data_label(*arguments) == label
    assert data_label(*arguments, synthetic=True) == f"{label} (synthetic)"


def test_percent_shows_the_decimals_there_are():
    assert [percent(x) for x in (85.0, 90.93, 92.3)] == ["85.0", "90.93", "92.3"]


def test_project_tables_of_logits_say_so(published, tmp_path):
    made_run(tmp_path / "r", kind="logits")
    tables = project_tables(published, measured(find_runs(tmp_path)))
    assert tables["NTU60_XSub_3D"]["testing protocol"].tolist() == ["10 clips", "10 clips (logits)"]
    assert isinstance(tables["NTU60_XSub_3D"], pd.DataFrame)
