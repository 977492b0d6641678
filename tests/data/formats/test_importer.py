"""The example of the guide, docs/extending/importer.md."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from msg3d_lab.data import import_dataset, open_store
from msg3d_lab.data.formats import registry
from msg3d_lab.data.preprocess import center_on

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "importer.py"


@pytest.fixture
def moves(monkeypatch):
    """The example's module, in the list of importers."""
    spec = importlib.util.spec_from_file_location("moves", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(registry, "IMPORTERS", (*registry.IMPORTERS, module.IMPORTER))
    return module


def test_the_example_imports_a_folder(moves, tmp_path):
    joints = np.random.default_rng(0).normal(size=(5, 60)).round(6)
    for name in ("a1_s1", "a2_s2"):
        np.savetxt(tmp_path / f"{name}.txt", joints)
    (tmp_path / "a1_s3.txt").write_text("1 2 3")
    store = open_store(
        import_dataset(tmp_path, dataset="moves", out=tmp_path / "s.arrow", progress=False)
    )
    assert store.ids == ["a1_s1", "a2_s2"]
    assert store.label_names == ["jump", "wave"]
    assert store.labels.tolist() == [0, 1]
    assert store.splits == {"xsub_train": 1, "xsub_val": 1}
    np.testing.assert_array_equal(store.keypoints(0), center_on(joints.reshape(1, 5, 20, 3), 1))
    (left_out,) = store.left_out.itertuples(index=False)
    assert (left_out.id, left_out.reason) == ("a1_s3", "cannot be read")
    assert "cannot reshape" in left_out.detail
