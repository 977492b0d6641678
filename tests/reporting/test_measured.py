import pandas as pd
import pytest
from made_runs import made_run, made_scores

from msg3d_lab.evaluation import read_scores, write_scores
from msg3d_lab.evaluation.fusion import fuse
from msg3d_lab.evaluation.statistics import difference
from msg3d_lab.published import read_published
from msg3d_lab.reporting.measured import (
    find_runs,
    fusion_gain,
    measured_results,
    results_table,
    runs_like,
    scores_by_seed,
    stream_gains,
)
from msg3d_lab.reporting.recorded import record_result
from msg3d_lab.reporting.tables import streams_table
from msg3d_lab.training import open_run

STREAMS = ("joint", "bone", "joint-motion", "bone-motion")


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Runs of four streams."""
    folder = tmp_path_factory.mktemp("four")
    for i, stream in enumerate(STREAMS):
        made_run(folder / stream, f"ntu60-xsub-3d-{stream}", right=0.6, seed=i)
    return folder


def test_find_runs_finds_tested_ones_at_any_depth(tmp_path):
    made_run(tmp_path / "a/seed-1")
    made_run(tmp_path / "b", "ntu60-xsub-3d-bone")
    made_run(tmp_path / "untested", "ntu60-xsub-3d-joint-motion").scores_path.unlink()
    made_run(tmp_path / "ablations/grid/variant/seed-1", "ntu60-xsub-3d-bone-motion")
    (tmp_path / "other").mkdir()
    write_scores(made_scores(), tmp_path / "other/scores.parquet")
    found = [run.path.relative_to(tmp_path).as_posix() for run in find_runs(tmp_path)]
    assert found == ["a/seed-1", "b"]
    assert find_runs(tmp_path / "nothing") == []


def test_find_runs_takes_the_later_of_two_equal_trainings(tmp_path):
    made_run(tmp_path / "a", started="2026-01-02T00:00:00")
    made_run(tmp_path / "b", started="2026-01-01T00:00:00")
    made_run(tmp_path / "c", settings=["seed=2"])
    made_run(tmp_path / "d", settings=["learning_rate=0.2"])
    made_run(tmp_path / "e", num_clips=1)
    assert [run.path.name for run in find_runs(tmp_path)] == ["a", "c", "d", "e"]
    assert [run.path.name for run in find_runs(tmp_path / "b", tmp_path / "a")] == ["a"]


def test_runs_like_are_of_one_network_on_any_stream_with_any_seed(tmp_path, four):
    made_run(tmp_path / "two", settings=["seed=2"])
    made_run(tmp_path / "changed", settings=["learning_rate=0.2"])
    made_run(tmp_path / "other", "ntu60-xview-3d-joint")
    runs = find_runs(four) + find_runs(tmp_path)
    found = [run.path.name for run in runs_like(runs, "ntu60-xsub-3d-bone")]
    assert found == [*sorted(STREAMS), "two"]


def test_scores_by_seed_are_of_a_stream_or_a_fusion(tmp_path, four):
    made_run(tmp_path / "two", settings=["seed=2"], seed=9)
    runs = find_runs(four) + find_runs(tmp_path)
    assert list(scores_by_seed(runs, "joint")) == [1, 2]
    assert list(scores_by_seed(runs, "joint motion")) == [1]
    fused = scores_by_seed(runs, "four-stream")
    assert list(fused) == [1]  # seed 2 has joints only
    own = [read_scores(four / stream / "scores.parquet") for stream in STREAMS]
    expected = fuse(own, weights=[2, 2, 1, 1])
    assert (fused[1].values == expected.values).all()
    with pytest.raises(ValueError, match="unknown streams 'three-stream'"):
        scores_by_seed(runs, "three-stream")
    made_run(tmp_path / "again", settings=["learning_rate=0.2"])
    with pytest.raises(ValueError, match="two runs of joint with seed 1"):
        scores_by_seed(runs + find_runs(tmp_path / "again"), "joint")


def test_stream_gains_are_differences_of_clips_and_seeds(tmp_path, four):
    made_run(tmp_path / "joint", settings=["seed=2"], right=0.6, seed=8)
    made_run(tmp_path / "bone", "ntu60-xsub-3d-bone", settings=["seed=2"], right=0.6, seed=9)
    runs = find_runs(four) + find_runs(tmp_path)
    table = stream_gains(runs).set_index(["streams", "minus"])
    assert table["seeds"].to_dict() == {
        ("four-stream", "two-stream"): 1,
        ("four-stream", "joint"): 1,
        ("two-stream", "joint"): 2,
    }
    for (one, other), row in table.iterrows():
        parts = [scores_by_seed(runs, name) for name in (one, other)]
        right = [[part[seed].correct for seed in range(1, int(row["seeds"]) + 1)] for part in parts]
        expected = difference(*right)
        assert row["points"] == 100 * expected.mean
        assert (row["low"], row["high"]) == (100 * expected.low, 100 * expected.high)
        assert (row["p_clips"], str(row["p_seeds"])) == (expected.p_clips, str(expected.p_seeds))
    assert stream_gains(find_runs(tmp_path)[:1]).empty


def test_fusion_gain_has_a_second_seed_as_its_control(tmp_path, four):
    for seed in (1, 2, 3):
        made_run(tmp_path / f"first-{seed}", settings=[f"seed={seed}"], right=0.6, seed=10 + seed)
        wider = [f"seed={seed}", "base_channels=12"]
        made_run(tmp_path / f"second-{seed}", settings=wider, right=0.6, seed=20 + seed)
    runs = find_runs(tmp_path)
    first, second = ([r for r in runs if r.path.name.startswith(kind)] for kind in ("fi", "se"))
    table = fusion_gain(first, second[:2])
    assert list(table["seed"]) == [1, 2]
    assert set(table["streams"]) == {"joint"}
    one, other = (scores_by_seed(group, "joint") for group in (first, second))
    assert table["both"][1] == 100 * fuse([one[2], other[2]]).correct.mean()
    assert table["two seeds"][0] == 100 * fuse([one[1], one[3]]).correct.mean()
    assert table["first"][0] == 100 * one[1].correct.mean() != table["second"][0]
    assert fusion_gain(first[:1], second)["two seeds"].isna().all()
    assert fusion_gain(first, []).empty


def test_find_runs_leaves_out_what_cannot_be_read(tmp_path, caplog):
    made_run(tmp_path / "good")
    made_run(tmp_path / "cut").scores_path.write_bytes(b"PAR1")
    recipe = made_run(tmp_path / "old").path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("epochs", "epocsh"))
    assert [run.path.name for run in find_runs(tmp_path)] == ["good"]
    assert caplog.text.count("is left out") == 2


def test_measured_has_a_row_per_run_and_per_fusion(four):
    runs = find_runs(four)
    table = measured_results(runs).set_index("streams")
    assert len(table) == 6
    by_stream = {run.recipe.data.stream: run for run in runs}
    for stream, run in by_stream.items():
        right = made_scores(right=0.6, seed=STREAMS.index(stream.replace("_", "-"))).correct
        assert table.loc[stream, "top1"] == pytest.approx(100 * right.mean())
        assert table.loc[stream, "checkpoint"] == run.checkpoint.as_posix()
    assert table["of_library"].all()
    row = table.loc["joint"]
    assert (row["split"], row["input"], row["sampling"]) == ("xsub", "3D (ntu25)", "uniform 100")
    assert row["devices"] == "8 x cuda, a processor, 4 threads"
    parts = [made_scores(right=0.6, seed=i) for i in range(4)]
    two = fuse(parts[:2]).correct.mean()
    assert table.loc["joint+bone", "top1"] == pytest.approx(100 * two)
    four_streams = fuse(parts, weights=[2, 2, 1, 1]).correct.mean()
    name = "2 joint+2 bone+joint_motion+bone_motion"
    assert table.loc[name, "top1"] == pytest.approx(100 * four_streams)
    assert table.loc[name, "recipe"] == "+".join(f"ntu60-xsub-3d-{s}" for s in STREAMS)


@pytest.mark.parametrize(
    "bone",
    [
        {"settings": ["seed=2"]},
        {"settings": ["learning_rate=0.2"]},
        {"name": "ntu60-xsub-3d-bone-paper"},
        {"num_clips": 1},
        {"kind": "logits"},
    ],
)
def test_measured_fuses_only_what_was_trained_and_tested_alike(tmp_path, bone):
    made_run(tmp_path / "joint")
    made_run(tmp_path / "bone", bone.pop("name", "ntu60-xsub-3d-bone"), **bone)
    assert set(measured_results(find_runs(tmp_path))["streams"]) == {"joint", "bone"}


def test_measured_does_not_take_weights_of_others_for_a_second_seed(tmp_path):
    """Nor a training on another store, nor are streams of two origins fused."""
    for i, stream in enumerate(("joint", "bone")):
        name = f"ntu60-xsub-3d-{stream}"
        made_run(tmp_path / f"ours/{stream}", name, seed=i)
        made_run(tmp_path / f"moved/{stream}", name, seed=10 + i, data_fingerprint="g")
        theirs = made_run(tmp_path / f"theirs/{stream}", name, seed=20 + i)
        weights = {"name": f"pyskl/{name}", "file": "w.pth", "sha256": 8 * str(i)}
        theirs.write_environment(theirs.environment | {"weights": weights})
    runs = [open_run(f.parent) for f in sorted(tmp_path.glob("*/*/scores.parquet"))]
    table = measured_results(runs)
    assert table["streams"].value_counts().to_dict() == {"joint": 3, "bone": 3, "joint+bone": 3}
    lines = streams_table(read_published(), table)
    assert lines["seeds"].max() == 1
    assert set(lines["measured"].dropna()) == set(table["top1"])
    pairs = [[made_scores(seed=10 * i + j) for j in range(2)] for i in range(3)]
    fused = set(table.loc[table["streams"] == "joint+bone", "top1"])
    assert fused == {100 * fuse(pair).correct.mean() for pair in pairs}


def test_measured_leaves_out_a_fusion_of_other_samples_and_says_so(tmp_path, caplog):
    made_run(tmp_path / "joint")
    made_run(tmp_path / "bone", "ntu60-xsub-3d-bone", count=49)
    assert set(measured_results(find_runs(tmp_path))["streams"]) == {"joint", "bone"}
    assert "are not fused: expected the same sample ids" in caplog.text


def test_measured_knows_a_changed_recipe(tmp_path):
    made_run(tmp_path / "r", settings=["learning_rate=0.2"])
    made_run(tmp_path / "s", settings=["seed=5"])
    assert measured_results(find_runs(tmp_path))["of_library"].tolist() == [False, True]


def test_measured_takes_from_the_table_what_has_no_run_folder(tmp_path):
    kept = made_run(tmp_path / "kept", count=51)  # so that the percentage has many digits
    gone = made_run(tmp_path / "gone", count=51, settings=["seed=2"])
    for run in (kept, gone):
        record_result(run, tmp_path / "results.csv")
    table = measured_results([kept], recorded=tmp_path / "results.csv")
    assert table["from"].tolist() == ["run", "table"]
    assert table["seed"].tolist() == [1, 2]
    same = ["dataset", "split", "input", "streams", "clips", "samples", "recipe_hash", "sampling"]
    assert table.loc[0, same].tolist() == table.loc[1, same].tolist()
    assert table["top1"].tolist() == [table["top1"][0]] * 2  # not rounded twice
    assert table["of_library"].tolist() == [True, True]
    pd.DataFrame({"dataset": ["x"]}).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(ValueError, match="has no column synthetic, split"):
        measured_results([], recorded=tmp_path / "other.csv")


def test_measured_reads_the_committed_table(request):
    path = request.config.rootpath / "data/results.csv"
    table = measured_results([], recorded=path)
    assert set(table["from"]) == {"table"}
    assert (table["samples"] > 0).all()
    assert table["top1"].between(0, 100).all()


def test_measured_of_nothing_is_empty():
    table = measured_results([])
    assert table.empty
    assert "top1" in table


def test_results_table_is_what_the_scores_say(run):
    scores = read_scores(run.scores_path)
    row = results_table([run]).iloc[0]
    assert row["top-1 %"] == pytest.approx(
        100 * (scores.predictions == scores.labels).mean(), abs=0.01
    )
    assert (row["samples"], row["clips"], row["split"]) == (13, 1, "xsub_val")
    assert row["data"] == "toy (synthetic)"
    assert row["parameters"] == sum(p.numel() for p in run.model().parameters())


def test_results_table_wants_tested_runs(toy_run):
    with pytest.raises(FileNotFoundError, match="run `msg3d-lab test"):
        results_table([toy_run])
