import pytest

from msg3d_lab.explaining import read_importance
from msg3d_lab.training import fit


@pytest.fixture(scope="module")
def run(toy_store, toy_recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("importance") / "toy"
    return fit(toy_recipe, data=toy_store, run=path, device="cpu", progress=False)


def test_importance_writes_a_table_and_figures(shell, run, tmp_path):
    words = ["importance", run.path, "--method", "gradient_x_input", "--clips", "4"]
    code, out, err = shell(*words, "--out", "mine.parquet", "--device", "cpu")
    assert code == 0, err
    assert "Passes per clip" in out
    assert "SYNTHETIC data, 4 clips of xsub_val: mine.parquet" in out
    assert len(read_importance("mine.parquet")) == 4
    assert {"body.pdf", "body.svg"} <= {p.name for p in (tmp_path / "mine").iterdir()}


def test_importance_says_what_it_costs_and_does_nothing(shell, run, tmp_path):
    code, out, err = shell("importance", run.path, "--cost", "--device", "cpu")
    assert code == 0, err
    assert "shapley" in out
    assert not list(tmp_path.iterdir())


def test_importance_ends_in_one_line_on_a_mistake(shell, run):
    code, _, err = shell("importance", run.path, "--by", "part", "--device", "cpu")
    assert code == 2
    assert "toy5 has no body parts" in err
    assert "Traceback" not in err
