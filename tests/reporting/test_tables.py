import math

import pandas as pd
import pytest
from made_runs import made_run

from msg3d_lab.published import read_published
from msg3d_lab.reporting.measured import find_runs, measured_results
from msg3d_lab.reporting.tables import (
    accuracy_table,
    project_tables,
    streams_overview,
    streams_table,
)


@pytest.fixture(scope="module")
def published():
    return read_published()


def test_nothing_measured_is_not_run_everywhere(published):
    table = streams_table(published, measured_results([]))
    ours = published[published["model"] == "MS-G3D"]
    assert len(table) == len(ours)
    assert sorted(table["published"]) == sorted(ours["top1_percent"])
    assert table["measured"].isna().all()
    assert (table["seeds"] == 0).all()
    overview = streams_overview(table)
    here = overview[overview["source"] == "measured here"]
    assert (here.drop(columns=["data", "source"]) == "not run").all(axis=None)
    assert here["data"].tolist() == list(dict.fromkeys(table["data"]))
    for tables in project_tables(published, measured_results([])).values():
        assert tables["top1 acc"].tolist()[1:] == ["not run"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two seeds of joint, one of bone, a changed recipe and synthetic data."""
    folder = tmp_path_factory.mktemp("runs")
    joint = "ntu60-xsub-3d-joint-pyskl"
    made_run(folder / "j1", joint, right=0.6)
    made_run(folder / "j2", joint, settings=["seed=2"], right=0.9, seed=7)
    made_run(folder / "b1", "ntu60-xsub-3d-bone-pyskl", seed=3)
    made_run(folder / "changed", joint, settings=["learning_rate=0.2"])
    made_run(folder / "s", "synthetic-joint")
    return measured_results(find_runs(folder))


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
    changed = line_of(ours, recipe="ntu60-xsub-3d-joint-pyskl (changed: ")
    assert math.isnan(changed["published"])
    assert changed["seeds"] == 1
    assert math.isnan(changed["sd"])


def test_streams_table_fuses_matching_seeds_only(published, results):
    table = streams_table(published, results)
    line = line_of(table, data="NTU60 X-Sub 3D", streams="two-stream", source="pyskl")
    assert line["seeds"] == 1
    fused = results[(results["streams"] == "joint+bone") & (results["dataset"] == "ntu60")]
    assert line["measured"] == pytest.approx(fused["top1"].item())
    assert line["recipe"] == "ntu60-xsub-3d-*-pyskl"


def test_streams_table_calls_synthetic_data_so_and_never_meets_a_published_number(
    published, results
):
    pretended = results.assign(synthetic=True)
    table = streams_table(published, pretended)
    assert table[table["seeds"] > 0]["published"].isna().all()
    assert table[table["seeds"] > 0]["data"].str.contains("synthetic").all()


def test_accuracy_table_has_every_seed_and_its_interval(published, results):
    table = accuracy_table(published, results)
    ours = table[(table["data"] == "NTU60 X-Sub 3D") & table["measured"].notna()]
    joint = line_of(ours[ours["streams"] == "joint"], source="pyskl")
    one, two = joint["seed 1"], joint["seed 2"]
    assert joint["measured"] == pytest.approx((one + two) / 2)
    # Student's interval of two: the 0.975 quantile with one degree of freedom is 12.7062.
    half = 12.7062 * abs(one - two) / 2
    assert joint["high"] == pytest.approx(min(100, joint["measured"] + half), rel=1e-5)
    assert joint["low"] == pytest.approx(max(0, joint["measured"] - half), rel=1e-5)
    assert joint["interval"] == "seeds"
    assert joint["best epoch"] == 50  # of metrics.csv, whatever was tested
    bone = line_of(ours[ours["streams"] == "bone"], source="pyskl")
    assert math.isnan(bone["seed 2"])
    # Wilson's interval of 50 test clips, by its closed form.
    p, n, z = bone["seed 1"] / 100, 50, 1.959964
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    spread = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert bone["low"] == pytest.approx(100 * (middle - spread), abs=1e-4)
    assert bone["high"] == pytest.approx(100 * (middle + spread), abs=1e-4)
    assert bone["interval"] == "test clips"
    fused = line_of(ours[ours["streams"] == "two-stream"], source="pyskl")
    assert (math.isnan(fused["best epoch"]), math.isnan(fused["seed 2"])) == (True, True)
    empty = accuracy_table(published, measured_results([]))
    assert len(empty) == (published["model"] == "MS-G3D").sum()
    assert empty["measured"].isna().all()


def test_streams_overview_has_a_row_per_source(published, results):
    overview = streams_overview(streams_table(published, results))
    rows = overview[overview["data"] == "NTU60 X-Sub 3D"].set_index("source")
    assert rows.loc["pyskl configs/msg3d README", "four-stream"] == "91.7"
    assert rows.loc["mmaction2 projects/msg3d README", "bone"] == ""
    ours = rows.loc["measured here, ntu60-xsub-3d-*-pyskl, 10 clips"]
    assert ours["joint"].endswith("(2 seeds)")
    assert ours["bone"].endswith("(1 seed)")
    assert ours["four-stream"] == "not run"
    assert "measured here, ntu60-xsub-3d-*-pyskl changed, 10 clips" in rows.index


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


def test_project_tables_of_logits_say_so(published, tmp_path):
    made_run(tmp_path / "r", kind="logits")
    tables = project_tables(published, measured_results(find_runs(tmp_path)))
    assert tables["NTU60_XSub_3D"]["testing protocol"].tolist() == ["10 clips", "10 clips (logits)"]
    assert isinstance(tables["NTU60_XSub_3D"], pd.DataFrame)
