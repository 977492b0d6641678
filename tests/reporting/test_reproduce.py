import pickle

import numpy as np
import pytest
import torch

from msg3d_lab import MSG3D, save_model
from msg3d_lab.cli import main
from msg3d_lab.model import convert
from msg3d_lab.model.weights import find_weights
from msg3d_lab.reporting.reproduce import Reproduction, rows
from msg3d_lab.training import recipes

ROW, STREAMS = "ntu60-xsub-2d", ("joint", "bone", "joint-motion", "bone-motion")
SMALL = [
    "base_channels=6", "num_gcn_scales=2", "num_g3d_scales=2", "clip_len=8", "test_clips=1",
    "epochs=1", "repeat=1", "batch_size=4",
]  # fmt: skip


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
    recipe = recipes.with_settings(recipes.get(f"{ROW}-joint"), SMALL)
    (tmp_path / "data/weights").mkdir(parents=True)
    for i, stream in enumerate(STREAMS):
        torch.manual_seed(i)
        net = MSG3D(num_classes=60, skeleton="coco17", **recipe.model.model_dump()).eval()
        save_model(net, tmp_path / f"{i}.safetensors")
        file = find_weights(f"pyskl/{ROW}-{stream}").file
        convert(tmp_path / f"{i}.safetensors", tmp_path / "data/weights" / file, to="mmaction2")


def test_the_rows_are_those_with_published_weights():
    assert len(rows()) == 8
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
    assert len(list((tmp_path / "runs/reproduce").iterdir())) == 4
    found = work.table().set_index("streams")
    # Changed recipes stand in rows of their own, the published ones beside "not run".
    measured = found[found["seeds"] == 1]
    assert set(measured.index) == {
        "joint", "bone", "joint motion", "bone motion", "two-stream", "four-stream",
    }  # fmt: skip
    assert found["published"].dropna().tolist()[:2] == [92.3, 92.7]
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
    assert (tmp_path / "runs/reproduce" / f"{ROW}-bone" / "metrics.csv").is_file()
    assert (tmp_path / "data/ntu60-2d.arrow").is_file()


def test_the_plan_says_what_is_needed(annotations, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["reproduce", ROW, "--data", str(annotations), "--plan"])
    shown = capsys.readouterr().out
    assert "GB of memory" in shown
    assert "measured when the data are there" in shown
    assert not (tmp_path / "data").exists()
    main(["reproduce"])
    assert ROW in capsys.readouterr().out
