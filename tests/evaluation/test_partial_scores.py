"""A killed evaluation continues. `main` is what the killed processes run."""

import json
import logging
import multiprocessing
import os
import shutil
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from msg3d_lab.evaluation import evaluate, evaluator, partial_scores, read_scores
from msg3d_lab.evaluation.partial_scores import PartialScores
from msg3d_lab.training import open_run

PRELOADED = ["msg3d_lab.training", "lightning_fabric", "pandas"]
FACTS = {"facts": ("hash", "fingerprint", "xsub_val", 1, "softmax"), "shape": (10, 3), "seconds": 0}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights").write_bytes(b"weights")
    return tmp_path


def make(folder, **changes):
    return PartialScores(folder, weights=folder / "weights", **(FACTS | changes))


def rows_in(parts):
    return sorted(row for rows, _ in parts.read() for row in rows.tolist())


def test_partial_scores_give_back_what_was_added(folder):
    rng, added = np.random.default_rng(0), {}
    parts = make(folder)
    for rows in ([3, 1], [7], [0, 9, 4]):
        scores = rng.random((len(rows), 3), dtype=np.float32)
        added.update(zip(rows, scores.tolist(), strict=True))
        parts.add(np.array(rows), scores)
    found = {}
    for rows, scores in make(folder).read():
        found.update(zip(rows.tolist(), scores.tolist(), strict=True))
    assert found == added
    parts.remove()
    assert [path.name for path in folder.iterdir()] == ["weights"]


def test_partial_scores_are_saved_once_in_a_while(folder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(partial_scores.time, "monotonic", lambda: now[0])
    parts = make(folder, seconds=20)
    for i in range(9):
        now[0] += 7
        parts.add(np.array([i]), np.zeros((1, 3), np.float32))
    assert rows_in(parts) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert len(list(folder.glob("*/*.npz"))) == 3


def test_a_short_evaluation_saves_no_partial_scores(folder):
    parts = make(folder, seconds=20)
    parts.add(np.array([1]), np.zeros((1, 3), np.float32))
    assert [path.name for path in folder.iterdir()] == ["weights"]


@pytest.mark.parametrize(
    "change",
    [
        {"facts": ("hash", "fingerprint", "xsub_val", 10, "softmax")},
        {"facts": ("hash", "fingerprint", "xsub_val", 1, "logits")},
        {"facts": ("hash", "another", "xsub_val", 1, "softmax")},
        {"shape": (11, 3)},
    ],
)
def test_partial_scores_of_another_test_are_left_alone(folder, change):
    make(folder).add(np.array([1]), np.ones((1, 3), np.float32))
    other = make(folder, **change)
    assert rows_in(other) == []
    other.remove()
    assert rows_in(make(folder)) == [1]


def test_partial_scores_of_other_weights_are_removed(folder):
    make(folder).add(np.array([1]), np.ones((1, 3), np.float32))
    (folder / "weights").write_bytes(b"others")
    parts = make(folder)
    assert rows_in(parts) == []
    parts.remove()
    assert [path.name for path in folder.iterdir()] == ["weights"]


def test_damaged_partial_scores_are_ignored(folder):
    parts = make(folder)
    for row in range(4):
        parts.add(np.array([row]), np.full((1, 3), row, np.float32))
    one, two, three, four = sorted(folder.glob("*/*.npz"))
    content = one.read_bytes()
    one.write_bytes(content[: len(content) // 2])
    two.write_bytes(b"")
    place = three.read_bytes().index(b"NUMPY", 200) + 120  # in the scores
    three.write_bytes(three.read_bytes()[:place] + b"\xff" + three.read_bytes()[place + 1 :])
    (four.parent / ".x.npz.part").write_bytes(content)
    assert len(rows_in(parts)) == 1


def test_an_evaluation_continues_if_partial_scores_cannot_be_saved(folder, caplog):
    parts = make(folder)
    parts.folder.write_text("in the way")
    with caplog.at_level(logging.WARNING):
        for row in range(3):
            parts.add(np.array([row]), np.zeros((1, 3), np.float32))
    assert [r.message.split(":")[0] for r in caplog.records] == [
        "partial scores cannot be saved, so a killed evaluation will start from the beginning"
    ]
    assert rows_in(parts) == []


@pytest.fixture(scope="module")
def trained(toy_run, tmp_path_factory):
    """A run, and its scores if nothing disturbs the test."""
    run = open_run(shutil.copytree(toy_run.path, tmp_path_factory.mktemp("parts") / "toy"))
    return run, evaluate(run, num_clips=2, device="cpu", progress=False).scores


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run that has not been tested."""
    shutil.copytree(trained[0].path, tmp_path / "run")
    (tmp_path / "run" / "scores.parquet").unlink()
    return open_run(tmp_path / "run")


@pytest.fixture
def tested(monkeypatch):
    """The positions that are tested in this process, as they are."""
    found, predict = [], evaluator.predict

    def counted(*words, **more):
        for batch in predict(*words, **more):
            found.extend(batch[2].tolist())
            yield batch

    monkeypatch.setattr(evaluator, "predict", counted)
    return found


def start(run, *, kill_after, processes=1):
    """Evaluate in new processes, as torchrun starts them; return their exit codes.

    The last of them is killed after it has scored some samples.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "test",
        }
        code = (
            f"import os, runpy; os.environ.update({environment if processes > 1 else {}}); "
            f"runpy.run_path({__file__!r})['main']({str(run.path)!r}, {kill_after})"
        )
        started.append(context.Process(target=exec, args=(code, {})))
        started[-1].start()
    started[-1].join(120)
    for process in started:
        if started[-1].exitcode != 0:
            process.terminate()  # torchrun does not wait for the others either
        process.join(120)
    return [process.exitcode for process in started]


def kept_in(run):
    """The rows in the parts of a run."""
    rows = [np.load(path)["rows"] for path in run.path.glob("testing-*/*.npz")]
    return sorted(np.concatenate(rows).tolist())


def assert_the_same(run, scores, expected):
    assert scores.ids == expected.ids
    np.testing.assert_allclose(scores.values, expected.values, atol=1e-6)
    saved = read_scores(run.scores_path)
    np.testing.assert_array_equal(saved.values, scores.values)
    assert saved.facts == expected.facts
    assert not list(run.path.glob("testing-*"))


def test_evaluate_killed_twice_goes_on_where_it_was(run, trained, tested, toy_store):
    every = toy_store.indices("xsub_val").tolist()
    assert start(run, kill_after=4) == [-signal.SIGKILL]
    assert start(run, kill_after=3) == [-signal.SIGKILL]
    assert kept_in(run) == list(range(7))
    assert not run.scores_path.exists()
    # Another number of clips begins at the beginning, and leaves the parts alone.
    evaluate(run, num_clips=3, device="cpu", progress=False)
    assert tested == every
    tested.clear()
    result = evaluate(run, num_clips=2, device="cpu", progress=False)
    assert tested == every[7:]
    assert_the_same(run, result.scores, trained[1])


def test_evaluate_killed_when_all_was_tested_tests_nothing_again(run, trained, tested):
    assert start(run, kill_after=13) == [-signal.SIGKILL]
    result = evaluate(run, num_clips=2, device="cpu", progress=False)
    assert tested == []
    assert_the_same(run, result.scores, trained[1])


def test_evaluate_killed_in_two_processes_goes_on_in_one(run, trained, tested, toy_store):
    """The second process has every second sample, and is killed after two of them."""
    every = toy_store.indices("xsub_val").tolist()
    assert start(run, kill_after=2, processes=2)[1] == -signal.SIGKILL
    kept = kept_in(run)
    assert {1, 3} <= set(kept) <= {0, 1, 2, 3, 4, 6, 8, 10, 12}
    result = evaluate(run, num_clips=2, device="cpu", progress=False)
    assert tested == [p for i, p in enumerate(every) if i not in kept]
    assert_the_same(run, result.scores, trained[1])


def test_evaluate_killed_in_one_process_goes_on_in_two(run, trained, toy_store):
    every = toy_store.indices("xsub_val").tolist()
    assert start(run, kill_after=4) == [-signal.SIGKILL]
    assert start(run, kill_after=-1, processes=2) == [0, 0]
    reports = [json.loads((run.path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [report["tested"] for report in reports] == [every[4::2], every[5::2]]
    assert reports[0]["top1"] == reports[1]["top1"]
    assert_the_same(run, read_scores(run.scores_path), trained[1])


def main(path, kill_after):
    """Test one sample at a time; the last process is killed after some of them."""
    rank, last = (int(os.environ.get(name, n)) for name, n in (("RANK", 0), ("WORLD_SIZE", 1)))
    predict, tested = evaluator.predict, []

    def counted(*words, **more):
        for batch in predict(*words, **more):
            yield batch
            tested.extend(batch[2].tolist())  # by now it has been kept
            if rank == last - 1 and len(tested) == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

    evaluator.predict = counted
    result = evaluate(path, num_clips=2, batch_size=2, device="cpu", progress=False, save_seconds=0)
    report = {"tested": tested, "top1": result.top1}
    (Path(path) / f"{rank}.json").write_text(json.dumps(report))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
