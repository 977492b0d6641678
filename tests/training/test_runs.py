import pytest

from msg3d_lab.training import open_run
from msg3d_lab.training.runs import create_run, machine_facts


def test_create_run_is_whole_or_not_at_all(tmp_path, toy_recipe):
    with pytest.raises(TypeError):
        create_run(tmp_path / "run", toy_recipe, {"not json": object()})
    assert list(tmp_path.iterdir()) == []
    run = create_run(tmp_path / "run", toy_recipe, {"seconds": 1})
    assert open_run(run.path).recipe == toy_recipe
    assert run.environment == {"seconds": 1}
    with pytest.raises(FileExistsError, match="exists already"):
        create_run(tmp_path / "run", toy_recipe, {})


def test_open_run_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a run folder: it has no recipe\.yaml"):
        open_run(tmp_path)


def test_write_metrics_replaces_the_table(tmp_path, toy_recipe):
    run = create_run(tmp_path / "run", toy_recipe, {})
    run.write_metrics([{"epoch": 1, "train_loss": 2.0}])
    run.write_metrics([{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.5}])
    assert run.metrics["train_loss"].tolist() == [2.0, 1.5]
    assert {p.name for p in run.path.iterdir()} == {
        "recipe.yaml",
        "environment.json",
        "metrics.csv",
    }


def test_finished_is_a_run_with_weights_and_without_checkpoints(tmp_path, toy_recipe):
    run = create_run(tmp_path / "run", toy_recipe, {})
    assert not run.finished
    (run.path / "resume.previous.pt").write_bytes(b"")
    run.checkpoint.write_bytes(b"")
    assert not run.finished
    (run.path / "resume.previous.pt").unlink()
    assert run.finished


def test_remove_parts_removes_what_was_half_written_and_no_more(tmp_path, toy_recipe):
    run = create_run(tmp_path / "run", toy_recipe, {})
    (run.path / ".resume.pt.12345678.part").write_bytes(b"half")
    run.remove_parts()
    assert {p.name for p in run.path.iterdir()} == {"recipe.yaml", "environment.json"}


def test_machine_facts_name_what_results_depend_on():
    facts = machine_facts()
    assert facts["packages"].keys() >= {"torch", "numpy", "lightning-fabric", "msg3d-lab"}
    assert facts["processor"]
    assert facts["threads"] >= 1
