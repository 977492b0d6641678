import shutil

import pytest

from msg3d_lab.evaluation import accuracy_interval, calibration_error, read_scores
from msg3d_lab.training import fit, open_run, recipes


@pytest.fixture(scope="module")
def run(toy_run, tmp_path_factory):
    return open_run(shutil.copytree(toy_run.path, tmp_path_factory.mktemp("cli") / "toy"))


def test_test_says_how_sure_it_is(shell, run):
    code, out, err = shell("test", run.path, "--average", "logits", "--device", "cpu")
    assert code == 0, err
    scores = read_scores(run.scores_path)
    assert scores.kind == "logits"
    low, high = accuracy_interval(scores.correct)
    assert f"95 % interval of top-1 over samples {100 * low:.2f} to {100 * high:.2f} %" in out
    assert f"calibration error {100 * calibration_error(scores):.2f} %" in out
    assert (run.path / "report.html").is_file()


def test_test_names_the_accuracy_of_clips_that_are_not_trained_on(
    shell, copies_store, toy_recipe, tmp_path
):
    recipe = recipes.with_settings(toy_recipe, ["epochs=1", "validate_every=0"])
    run = fit(recipe, data=copies_store, run=tmp_path / "run", device="cpu", progress=False)
    code, out, err = shell("test", run.path, "--device", "cpu")
    assert code == 0, err
    scores = read_scores(run.scores_path)
    others = [name not in ("clip36", "clip37", "clip38", "clip39") for name in scores.ids]
    top1 = 100 * scores.correct[others].mean()
    text = f"4 of the 13 clips are in xsub_train too; top-1 of the others: {top1:.2f} %"
    assert f"\n{text}\n" in out
    assert text in (run.path / "report.html").read_text(encoding="utf-8")


def test_report_against_another_run(shell, run):
    if not run.scores_path.is_file():
        assert shell("test", run.path, "--device", "cpu")[0] == 0
    code, out, err = shell("report", run.path, "--against", run.path)
    assert code == 0, err
    path = run.path / f"report-against-{run.path.name}.html"
    assert out == f"Report: {path}\n"
    assert "The two recipes are equal." in path.read_text(encoding="utf-8")
    path.unlink()
    code, _, err = shell("report", run.path, "--against", "nothing")
    assert (code, path.exists()) == (2, False)
    assert "not a run folder" in err


def test_test_of_another_split_writes_nothing(shell, run):
    before = {p.name: p.read_bytes() for p in run.path.iterdir()}
    code, out, err = shell("test", run.path, "--split", "xsub_train", "--device", "cpu")
    assert code == 0, err
    assert out.startswith("xsub_train, 36 samples: top-1 ")
    assert "calibration error" in out
    assert out.endswith("nothing is written\n")
    assert {p.name: p.read_bytes() for p in run.path.iterdir()} == before


def test_scores_says_what_a_file_by_position_needs(shell, toy_store, tmp_path):
    (tmp_path / "scores.pkl").write_bytes(b"\x80\x02K\x01.")
    words = ["scores", "scores.pkl", "--out", "x.parquet", "--store", toy_store.path]
    code, _, err = shell(*words)
    assert code != 0
    assert "holds no scores: expected a dict of name -> scores" in err
    assert not (tmp_path / "x.parquet").exists()
