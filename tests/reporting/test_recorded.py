from pathlib import Path

import pandas as pd
import pytest

from msg3d_lab.evaluation import evaluate, read_scores
from msg3d_lab.reporting.measured import find_runs, measured_results, results_table
from msg3d_lab.reporting.recorded import keep_run, record_result


def test_record_result_appends_each_result_once(run, tmp_path):
    path = tmp_path / "results.csv"
    assert len(record_result(run, path)) == 1
    with pytest.raises(ValueError, match="has this result already, in row 1"):
        record_result(run, path)
    evaluate(run, num_clips=3, device="cpu", progress=False)
    table = record_result(run, path)
    evaluate(run, device="cpu", progress=False)
    assert table["test_clips"].tolist() == ["1", "3"]
    assert float(table["top1_percent"][0]) == results_table([run])["top-1 %"].item()
    assert table["synthetic"].tolist() == ["True", "True"]
    assert table["recipe_hash"][0] == run.recipe.hash


def test_record_result_keeps_older_rows_to_the_letter(run, tmp_path):
    path = tmp_path / "results.csv"
    record_result(run, path)
    row = path.read_text().splitlines()[1]
    older = row.replace(run.recipe.hash, "012345678901").replace(",toy,", ",x,")
    older = older.replace(read_fingerprint(run), "123456789e12")
    path.write_text(path.read_text().replace(row, older))
    record_result(run, path)
    assert path.read_text().splitlines()[1:] == [older, row]


def test_record_result_gives_a_table_of_an_earlier_version_the_new_columns(run, tmp_path):
    path = tmp_path / "results.csv"
    record_result(run, path)
    new = ["average", "top1_low_percent", "top1_high_percent"]
    new += ["calibration_error_percent", "precision"]
    table = pd.read_csv(path, dtype=str)
    assert list(table.columns[-5:]) == new
    low, top1, high = (float(table[f"top1{x}_percent"][0]) for x in ("_low", "", "_high"))
    assert low <= top1 <= high
    table.drop(columns=new).to_csv(path, index=False)
    with pytest.raises(ValueError, match="has this result already"):
        record_result(run, path)  # an earlier version averaged softmax scores, as this one did
    table.assign(seed="7").drop(columns=new).to_csv(path, index=False)
    both = record_result(run, path)
    assert both["seed"].tolist() == ["7", "1"]
    again = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert again["average"].tolist() == ["", "softmax"]
    with pytest.raises(ValueError, match="in row 2"):
        record_result(run, path)


def test_record_result_tells_averages_apart(run, tmp_path):
    path = tmp_path / "results.csv"
    record_result(run, path)
    before = run.scores_path.read_bytes()
    evaluate(run, average="logits", device="cpu", progress=False)
    assert record_result(run, path)["average"].tolist() == ["softmax", "logits"]
    run.scores_path.write_bytes(before)


def test_keep_run_leaves_weights_and_paths_of_the_machine_behind(run, tmp_path):
    kept = keep_run(run, tmp_path / "runs")
    assert kept == tmp_path / "runs" / run.recipe.name / "seed-1"
    names = {"recipe.yaml", "environment.json", "metrics.csv", "scores.parquet"}
    assert {file.name for file in kept.iterdir()} == names
    store = Path(run.environment["data"]["path"])
    assert store.is_absolute()
    assert str(store.parent) not in (kept / "environment.json").read_text()
    [found] = find_runs(tmp_path)
    assert found.environment["data"]["path"] == store.name
    assert found.metrics.equals(run.metrics)
    row, other = (measured_results([one]).iloc[0] for one in (found, run))
    same = ["top1", "seed", "recipe_hash", "devices", "samples"]
    assert row[same].equals(other[same])
    assert row["checkpoint"] == ""
    (tmp_path / "z").symlink_to(run.path)  # the same result with its weights: first named, first
    assert [one.path for one in find_runs(tmp_path / "z", tmp_path / "runs")] == [tmp_path / "z"]
    with pytest.raises(FileNotFoundError, match="model"):
        found.model()
    with pytest.raises(FileExistsError):
        keep_run(run, tmp_path / "runs")


def read_fingerprint(run):
    return read_scores(run.scores_path).facts["data_fingerprint"]
