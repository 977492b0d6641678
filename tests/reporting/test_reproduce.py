import itertools
import json
import pickle
import signal
import time
import zipfile
from types import SimpleNamespace

import launchers
import numpy as np
import pandas as pd
import pytest
import torch

from msg3d_lab import MSG3D, save_model
from msg3d_lab.cli import main
from msg3d_lab.evaluation.scores import read_run_scores
from msg3d_lab.model import convert
from msg3d_lab.model.weights import find_weights
from msg3d_lab.reporting import reproduce
from msg3d_lab.reporting.reproduce import Reproduction, rows
from msg3d_lab.training import fit, open_run, recipes
from msg3d_lab.training.diagnostics.estimation import Estimate

ROW, STREAMS = "ntu60-xsub-2d", ("joint", "bone", "joint-motion", "bone-motion")
SMALL = [
    "base_channels=6", "num_gcn_scales=2", "num_g3d_scales=2", "clip_len=8", "test_clips=1",
    "epochs=1", "repeat=1", "batch_size=4",
]  # fmt: skip


@pytest.fixture(autouse=True)
def estimated(monkeypatch):
    """What a training costs, instead of half a minute of measuring it."""

    def quick(recipe, **_):
        cost = SimpleNamespace(parameters=2_000_000)
        return Estimate(
            recipe, cost, peak_memory={4: 10**9}, seconds=3600.0, test_seconds_per_clip=0.5
        )

    monkeypatch.setattr(reproduce, "estimate", quick)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    """A pickle of the layout of ntu60_2d.pkl, with 12 clips."""
    rng = np.random.default_rng(0)
    names = [f"S001C00{c}P00{p}R001A00{a}" for a in (1, 2) for p in (1, 3) for c in (1, 2, 3)]
    entries = [
        {
            "frame_dir": name,
            "label": int(name[-1]) - 1,
            "img_shape": (1080, 1920),
            "original_shape": (1080, 1920),
            "total_frames": 20,
            "keypoint": rng.uniform(100, 900, (1, 20, 17, 2)).astype(np.float16),
            "keypoint_score": np.ones((1, 20, 17), np.float16),
        }
        for name in names
    ]
    split = {
        "xsub_train": [n for n in names if "P001" in n],
        "xsub_val": [n for n in names if "P003" in n],
        "xview_train": [n for n in names if "C001" not in n],
        "xview_val": [n for n in names if "C001" in n],
    }
    path = tmp_path_factory.mktemp("data") / "ntu60_2d.pkl"
    path.write_bytes(pickle.dumps({"split": split, "annotations": entries}, protocol=2))
    return path


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Small weights where the published ones are downloaded to."""
    monkeypatch.chdir(tmp_path)
    recipe = recipes.with_settings(recipes.get(f"{ROW}-joint-pyskl"), SMALL)
    (tmp_path / "data/weights").mkdir(parents=True)
    for i, stream in enumerate(STREAMS):
        torch.manual_seed(i)
        net = MSG3D(num_classes=60, skeleton="coco17", **recipe.model.model_dump()).eval()
        save_model(net, tmp_path / f"{i}.safetensors")
        file = find_weights(f"pyskl/{ROW}-{stream}").file
        convert(tmp_path / f"{i}.safetensors", tmp_path / "data/weights" / file, to="mmaction2")


def test_the_rows_are_those_with_published_weights_or_free_data():
    assert len(rows()) == 8 + 4
    assert {"nw-ucla", "nw-ucla-aligned", "nw-ucla-wide", "utd-mhad"} < set(rows())
    with pytest.raises(ValueError, match="unknown row 'ntu60-xset-2d'"):
        Reproduction("ntu60-xset-2d")
    with pytest.raises(ValueError, match="mmaction2 has published no weights for ntu60-xview-2d"):
        Reproduction("ntu60-xview-2d", zoo="mmaction2")


def test_a_row_from_weights(published, annotations, tmp_path, capsys):
    words = ["reproduce", ROW, "--data", str(annotations), "--device", "cpu"]
    main([*words, "--set", *SMALL])
    shown = capsys.readouterr().out
    assert "to import" in shown
    work = Reproduction(ROW, data=annotations, settings=SMALL)
    assert work.plan()["done"].all()
    folders = (tmp_path / "runs/reproduce").glob("*/")
    names = {open_run(folder).environment["weights"]["name"] for folder in folders}
    assert names == {f"pyskl/{ROW}-{stream}" for stream in STREAMS}
    found = work.table().set_index("streams")
    # Changed recipes stand in rows of their own, the published ones beside "not run".
    measured = found[found["seeds"] == 1]
    assert set(measured.index) == {
        "joint", "bone", "joint motion", "bone motion", "two-stream", "four-stream",
    }  # fmt: skip
    assert found["published"].dropna().tolist()[:2] == [92.7, 92.8]
    # Everything is kept: nothing is tested again.
    scores = sorted((tmp_path / "runs/reproduce").glob("*/scores.parquet"))
    before = [path.stat().st_mtime_ns for path in scores]
    work.run(device="cpu", progress=False)
    assert [path.stat().st_mtime_ns for path in scores] == before


def test_a_row_from_training(annotations, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    work = Reproduction(ROW, origin="training", data=annotations, settings=SMALL)
    work.run(device="cpu", progress=False)
    assert work.plan()["done"].all()
    assert (tmp_path / "runs/reproduce" / f"{ROW}-bone-pyskl" / "metrics.csv").is_file()
    assert (tmp_path / "data/ntu60-2d-pyskl.arrow").is_file()
    # A finished run of other settings is no result of the row.
    other = Reproduction(
        ROW, origin="training", data=annotations, settings=[*SMALL, "learning_rate=0.5"]
    )
    for ask in (other.plan, lambda: other.run(device="cpu", progress=False)):
        with pytest.raises(ValueError, match=r"joint-pyskl is of another recipe: .*learning_rate"):
            ask()


def test_the_plan_says_what_is_needed(annotations, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["reproduce", ROW, "--data", str(annotations), "--plan"])
    shown = capsys.readouterr().out
    assert "1 MB of memory" in shown
    assert "measured when the data are there" in shown
    assert not (tmp_path / "data").exists()
    main(["reproduce"])
    assert ROW in capsys.readouterr().out


def nw_ucla_zip(path):
    """Made-up clips of NW-UCLA: two classes that differ in which hand is high."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for action, view, repetition in itertools.product((1, 2), (1, 2, 3), range(4)):
            name = f"a{action:02d}_s01_e{repetition:02d}_v{view:02d}"
            joints = rng.standard_normal((10, 20, 3)).round(3)
            joints[:, 7 if action == 1 else 11, 1] += 9
            document = {"skeletons": joints.tolist(), "label": action}
            archive.writestr(f"all_sqe/{name}.json", json.dumps(document))
    return path


def test_nw_ucla_from_its_download_with_seeds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = nw_ucla_zip(tmp_path / "all_sqe.zip")
    words = ["reproduce", "nw-ucla", "--data", str(data), "--device", "cpu", "--compact"]
    words += ["--seeds", "1", "2", "--set", *SMALL, "epochs=2", "batch_size=8"]
    main(words)
    shown = capsys.readouterr().out
    assert "8 of 8: nw-ucla-bone-motion-compact, seed 2" in shown
    # Times once the data are there: eight trainings of an hour, and eight clips are tested by each.
    assert "60 min, 1.0 GB of memory, 40 MB of disk" in shown
    assert "8.0 h on this machine" in shown
    runs = [open_run(path) for path in sorted((tmp_path / "runs/reproduce").glob("nw*/"))]
    assert len(runs) == 8
    table = pd.read_csv(tmp_path / "runs/reproduce/nw-ucla-compact.csv")
    measured = table[table["measured"].notna()].set_index("streams")
    assert list(measured.index) == [
        "joint", "bone", "joint motion", "bone motion", "two-stream", "four-stream",
    ]  # fmt: skip
    for stream in ("joint", "bone_motion"):
        own = [run for run in runs if run.recipe.data.stream == stream]
        by_seed = {
            run.recipe.training.seed: 100 * read_run_scores(run).correct.mean() for run in own
        }
        line = measured.loc[stream.replace("_", " ")]
        assert {seed: line[f"seed {seed}"] for seed in (1, 2)} == pytest.approx(by_seed)
        assert line["measured"] == pytest.approx(np.mean(list(by_seed.values())))
        best = np.mean([100 * run.metrics["test_top1"].max() for run in own])
        assert line["best epoch"] == pytest.approx(best)
        assert line["best epoch"] >= line["measured"]
    # Published results stand in rows of their own, because these recipes were changed.
    assert table["published"].dropna().tolist() == [90.93, 90.06, 92.66]
    before = {run.path: run.checkpoint.stat().st_mtime_ns for run in runs}
    main(words)
    assert before == {run.path: run.checkpoint.stat().st_mtime_ns for run in runs}
    assert "to do" not in capsys.readouterr().out


SCRIPT = """
import sys
from pathlib import Path
import torch
from msg3d_lab.reporting.reproduce import Reproduction

torch.set_num_threads(1)
work = Reproduction("nw-ucla", data=Path(sys.argv[1]), settings=sys.argv[2:])
work.run(device="cpu", progress=False)
"""


@pytest.mark.slow
def test_a_killed_reproduction_continues_and_ends_as_without_the_kill(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = nw_ucla_zip(tmp_path / "all_sqe.zip")
    settings = [*SMALL, "epochs=3"]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = launchers.start(script, data, *settings)
    second = tmp_path / "runs/reproduce/nw-ucla-bone"
    while process.is_alive() and not (second / "resume.pt").is_file():
        time.sleep(0.01)
    process.kill()
    assert launchers.finish([process]) == [-signal.SIGKILL], "it was killed before it ended"
    runs = tmp_path / "runs/reproduce"
    assert open_run(runs / "nw-ucla-joint").finished
    assert not open_run(second).finished
    before = (runs / "nw-ucla-joint/model.safetensors").stat().st_mtime_ns
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the process that was killed
    work = Reproduction("nw-ucla", data=data, settings=settings)
    table = work.run(device="cpu", progress=False)
    assert (runs / "nw-ucla-joint/model.safetensors").stat().st_mtime_ns == before
    assert len(table[table["measured"].notna()]) == 6
    whole = fit(work.recipes[1], data=work.store_path, run="whole", device="cpu", progress=False)
    torch.set_num_threads(threads)
    assert whole.checkpoint.read_bytes() == open_run(second).checkpoint.read_bytes()


def test_nw_ucla_turned_to_the_body_is_a_row_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = nw_ucla_zip(tmp_path / "all_sqe.zip")
    work = Reproduction(row="nw-ucla-aligned", data=data, compact=True)
    store = work.open_store(progress=False)
    assert store.path == tmp_path / "data/nw-ucla-aligned.arrow"
    assert store.preparation["name"] == work.recipes[0].data.preparation == "prepare_3d"
    assert len(work.plan()) == 10  # data, four trainings, four tests, and what all need


def test_utd_mhad_without_data_says_how_to_get_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", "utd-mhad", "--seeds", "1", "2", "3"])
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert "training utd-mhad-bone-motion seed 3" in shown.out
    assert "`msg3d-lab data download utd-mhad` tells how to get them" in shown.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row": ROW, "seeds": (1, 2)}, "compact and seeds are of trainings"),
        ({"row": "nw-ucla", "seeds": (1, 1)}, "expected seeds that differ"),
        ({"row": ROW, "origin": "training", "compact": True}, "no compact recipes of ntu60"),
        ({"row": "nw-ucla-aligned"}, "no full-size recipes of nw-ucla-aligned: give --compact"),
        ({"row": "nw-ucla", "origin": "weights"}, "pyskl has published no weights for nw-ucla"),
    ],
)
def test_a_reproduction_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Reproduction(**options)
