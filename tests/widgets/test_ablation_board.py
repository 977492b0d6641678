"""AblationBoard: the table of the grid, and the process it starts."""

import json
import time

import pytest

from msg3d_lab.experiments import AblationResults, Grid
from msg3d_lab.training import recipes
from msg3d_lab.widgets import AblationBoard


@pytest.fixture
def grid(toy_recipe, tmp_path):
    recipes.save(toy_recipe, tmp_path / "toy.yaml")
    variants = [
        {"name": "k2", "set": {"num_gcn_scales": 2}},
        {"name": "k3", "compare_with": "k2"},
        {"name": "broken", "set": {"data.train_split": "nothing"}},
    ]
    return Grid(name="toy", title="Toy variants", source="", recipe=str(tmp_path / "toy.yaml"),
                seeds=(1,), variants=variants)  # fmt: skip


@pytest.mark.slow
def test_a_board_runs_its_grid_and_shows_what_the_results_say(grid, toy_store, tmp_path):
    options = {"runs": tmp_path / "runs", "data": toy_store, "settings": {"epochs": 1}}
    board = AblationBoard(grid, device="cpu", **options)
    assert [row["state"] for row in board.data["rows"]] == ["missing"] * 3
    assert board.data["actions"] == [["start", "start"]]
    assert board.data["comparison"] == []
    board.figure()
    board._receive(board, {"action": "start"}, [])
    assert board.data["state"] == "starting"
    end = time.monotonic() + 150
    seen = set()
    while board.data["state"] in ("starting", "training"):
        assert time.monotonic() < end, board.data
        time.sleep(0.2)
        board.refresh()
        seen.add(board.data["state"])
    assert "training" in seen
    again = AblationBoard(grid, device="cpu", **options)
    rows = {row["variant"]: row for row in again.data["rows"]}
    assert [rows[name]["state"] for name in ("k2", "k3", "broken")] == [
        "tested",
        "tested",
        "failed",
    ]
    assert "nothing" in rows["broken"]["why"]
    assert again.data["actions"] == [["start", "continue, and retry 1 failed"]]
    expected = AblationResults(grid, **options).table()
    (k3,) = [row for row in again.data["comparison"] if row["variant"] == "k3"]
    for name in ("top1", "difference", "low", "high", "p_holm"):
        assert k3[name] == pytest.approx(expected.loc["k3", name])
    assert again.table().equals(expected)
    assert not (tmp_path / "runs/ablation.json").exists()
    json.dumps(again.data, allow_nan=False)
    assert "k3 − k2" in [t.get_text() for t in again.figure().axes[0].get_yticklabels()]
    assert again.describe() == "Toy variants: 2 of 3 runs tested, failed"


def test_remaining_time_is_the_mean_of_this_process(grid, toy_store, tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    now = time.time()
    progress = {"done": 30.0, "first_done": 10.0, "total": 110.0, "running": []}
    moving = json.dumps({**progress, "started": now - 40, "time": now})
    (folder / "ablation.json").write_text(moving)
    board = AblationBoard(grid, runs=folder, data=toy_store)
    assert board.data["seconds_left"] == pytest.approx(160, abs=2)
    assert board.data["state"] == "training"  # by a process of somebody else
    assert board.data["actions"] == []
    stale = {**progress, "started": now - 900, "time": now - 600}
    (folder / "ablation.json").write_text(json.dumps(stale))
    board.refresh()
    assert (board.data["state"], board.data["seconds_left"]) == ("missing", None)


def test_wrong_jobs_are_refused(grid, toy_store):
    with pytest.raises(ValueError, match="expected jobs of 1 or more, found 0"):
        AblationBoard(grid, data=toy_store, jobs=0)
