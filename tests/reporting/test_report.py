import re

import pandas as pd
import pytest

from msg3d_lab import evaluation
from msg3d_lab.reporting.report import record_result, results_table, write_report
from msg3d_lab.training import fit


@pytest.fixture(scope="module")
def run(toy_store, toy_recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "toy"
    run = fit(toy_recipe, data=toy_store, run=path, device="cpu", progress=False)
    evaluation.evaluate(run, device="cpu", progress=False)
    return run


def test_results_table_is_what_the_scores_say(run):
    scores = evaluation.read_scores(run.scores_path)
    row = results_table([run]).loc["toy"]
    assert row["top-1 %"] == pytest.approx(
        100 * (scores.predictions == scores.labels).mean(), abs=0.01
    )
    assert (row["samples"], row["clips"], row["split"]) == (13, 1, "xsub_val")
    assert row["data"] == "toy (synthetic)"
    assert row["parameters"] == sum(p.numel() for p in run.model().parameters())


def test_results_table_wants_tested_runs(toy_store, toy_recipe, tmp_path):
    untested = fit(toy_recipe, data=toy_store, run=tmp_path / "r", device="cpu", progress=False)
    with pytest.raises(FileNotFoundError, match="run `msg3d-lab test"):
        results_table([untested])


def test_record_result_appends_each_result_once(run, tmp_path):
    path = tmp_path / "results.csv"
    assert len(record_result(run, path)) == 1
    with pytest.raises(ValueError, match="has this result already, in row 1"):
        record_result(run, path)
    evaluation.evaluate(run, num_clips=3, device="cpu", progress=False)
    table = record_result(run, path)
    evaluation.evaluate(run, device="cpu", progress=False)
    assert table["test_clips"].tolist() == ["1", "3"]
    assert float(table["top1_percent"][0]) == results_table([run]).loc["toy", "top-1 %"]
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
    evaluation.evaluate(run, average="logits", device="cpu", progress=False)
    assert record_result(run, path)["average"].tolist() == ["softmax", "logits"]
    run.scores_path.write_bytes(before)


def read_fingerprint(run):
    return evaluation.read_scores(run.scores_path).facts["data_fingerprint"]


def test_write_report_is_one_file_that_names_its_data(run):
    path = write_report(run)
    page = path.read_text(encoding="utf-8")
    assert path == run.path / "report.html"
    assert "ynthetic" in page
    assert page.count("data:image/png;base64,") == 4
    assert page.count("<canvas") >= 3
    assert run.recipe.hash in page
    # Nothing is fetched: no address of anything to load but inline data.
    assert not re.findall(r'(?:src|href)\s*=\s*"(?!data:|#)[^"]*"', page)
    assert write_report(run) == path  # a report may be made again
    assert str(run.path) in page


def test_write_report_goes_where_it_is_told(run, tmp_path):
    assert write_report(run, out=tmp_path / "page.html") == tmp_path / "page.html"
