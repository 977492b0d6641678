"""A recording is prepared as the importer of its data set prepares it: the store is the oracle."""

import json

import numpy as np
import pandas as pd
import pytest

from msg3d_lab import skeletons
from msg3d_lab.data import import_dataset, open_store
from msg3d_lab.inference import read_recordings
from msg3d_lab.inference.preparation import RecordedPreparation


def prepared(store, keypoints, **options):
    prepare = RecordedPreparation(
        store.preparation, skeleton=store.skeleton, channels=store.channels
    )
    return prepare(keypoints, **options)


def import_own(folder, x, layout, **options):
    (folder / "clips").mkdir()
    np.save(folder / "clips/one.npy", x)
    labels = pd.DataFrame({"sample": ["one"], "label": ["wave"], "splits": ["train"]})
    labels.to_csv(folder / "clips/labels.csv", index=False)
    out = folder / "own.arrow"
    import_dataset(
        folder / "clips", dataset="own", layout=layout, out=out, progress=False, **options
    )
    return open_store(out)


@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, c) for name in ("align", "center", "none") for c in (3, 4)] + [("paper", 3)],
)
def test_own_recordings_in_3d(tmp_path, name, channels):
    x = np.random.default_rng(0).normal(size=(2, 7, 25, channels))
    x[1, :3] = 0
    store = import_own(tmp_path, x, "ntu25", prepare=name)
    assert np.array_equal(prepared(store, x), store.keypoints(0))


def test_own_recordings_in_pixels_know_the_size_of_their_images(tmp_path):
    x = np.random.default_rng(0).uniform(1, 400, size=(1, 7, 17, 2))
    store = import_own(tmp_path, x, "coco17", image_size=(480, 640))
    assert np.array_equal(prepared(store, x), store.keypoints(0))
    other = prepared(store, 2 * x, image_size=(960, 1280))
    np.testing.assert_allclose(other, store.keypoints(0), atol=1e-6)


def test_pixels_are_prepared_as_in_pyskl(tmp_path):
    x = np.random.default_rng(0).uniform(1, 400, size=(1, 7, 17, 3))
    x[..., 2] = np.random.default_rng(1).choice([0.005, 0.9], size=(1, 7, 17))
    store = import_own(
        tmp_path, x, "coco17", image_size=(480, 640), prepare="pyskl", channels="x,y,score"
    )
    assert store.preparation["name"] == "prepare_2d_pyskl"
    assert not store.keypoints(0)[x[..., 2] < 0.01][:, :2].any()
    assert np.array_equal(prepared(store, x), store.keypoints(0))


def test_kinetics(tmp_path):
    rng = np.random.default_rng(0)
    frames = [
        {
            "frame_index": t,
            "skeleton": [
                {"pose": rng.uniform(0.1, 0.9, 36).tolist(), "score": rng.uniform(size=18).tolist()}
            ],
        }
        for t in range(6)
    ]
    document = {"data": frames, "label": "wave", "label_index": 0}
    for part in ("train", "val"):
        (tmp_path / f"kinetics_{part}").mkdir()
        (tmp_path / f"kinetics_{part}/{part}.json").write_text(json.dumps(document))
        label = {part: {"has_skeleton": True, "label": "wave", "label_index": 0}}
        (tmp_path / f"kinetics_{part}_label.json").write_text(json.dumps(label))
    out = tmp_path / "kinetics.arrow"
    store = open_store(import_dataset(tmp_path, dataset="kinetics400", out=out, progress=False))
    file = tmp_path / "kinetics_train/train.json"
    (recording,) = read_recordings(file, skeleton=store.skeleton)
    found = prepared(store, recording.keypoints, image_size=recording.image_size)
    np.testing.assert_allclose(found, store.keypoints(store.ids.index("train")), atol=1e-6)


def test_nw_ucla(tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 20, 3))
    for view in (1, 2, 3):
        document = {"skeletons": x.tolist(), "label": 1}
        (tmp_path / f"a01_s01_e00_v0{view}.json").write_text(json.dumps(document))
    out = tmp_path / "store.arrow"
    store = open_store(import_dataset(tmp_path, dataset="nw-ucla", out=out, progress=False))
    assert np.array_equal(prepared(store, x), store.keypoints(0))


def test_an_image_size_is_asked_for():
    coco = skeletons.get("coco17")
    prepare = RecordedPreparation({"name": "prepare_2d", "scored": True}, skeleton=coco, channels=3)
    with pytest.raises(ValueError, match="--image-size HEIGHT WIDTH"):
        prepare(np.ones((1, 4, 17, 2)))
    # Pixels without a score count as seen.
    assert (prepare(np.ones((1, 4, 17, 2)), image_size=(10, 10))[..., 2] == 1).all()


def test_what_another_program_prepared_cannot_be_repeated():
    with pytest.raises(ValueError, match="prepared by another program"):
        RecordedPreparation({"name": "2s-AGCN"}, skeleton=skeletons.get("ntu25"), channels=3)
