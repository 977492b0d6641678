import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from msg3d_lab import MSG3D, Predictor
from msg3d_lab.cli import main
from msg3d_lab.data.synthetic.dataset import record
from msg3d_lab.model import export
from msg3d_lab.model.export import export_model

EXAMPLE = Path(__file__).parents[2] / "docs/examples/run_onnx.py"
SMALL = {"base_channels": 6, "num_gcn_scales": 2, "num_g3d_scales": 2}
SMALL |= {"window_sizes": (3,), "window_dilations": (1,), "tcn_dilations": (1,)}


@pytest.fixture(scope="module")
def exported(small_run, tmp_path_factory):
    """The small run as ONNX, by the command."""
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    main(["export", str(small_run.path), str(path)])
    return path


def test_an_onnx_file_knows_its_classes_and_preparation(small_run, exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["msg3d_lab"])
    known = small_run.environment["data"]
    assert facts["label_names"] == known["label_names"]
    assert facts["preparation"] == known["preparation"]
    assert (facts["clip_len"], facts["stream"], facts["num_persons"]) == (16, "joint", 2)
    (x,) = session.get_inputs()
    assert [isinstance(size, str) for size in x.shape] == [True, False, True, False, False]
    clips = torch.randn(3, 2, 21, 25, 3)
    (logits,) = session.run(None, {"x": clips.numpy()})
    with torch.no_grad():
        expected = small_run.model()(clips).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_the_example_runs_it_without_this_package(small_run, exported, tmp_path):
    raw = record("S001C001P003R001A015")[0][:, :12]
    np.save(tmp_path / "clip.npy", raw)
    without = "import sys, runpy; sys.modules['msg3d_lab'] = sys.modules['torch'] = None; "
    code = without + "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    words = [sys.executable, "-c", code, EXAMPLE, exported, tmp_path / "clip.npy"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    expected = Predictor(small_run, num_clips=1, device="cpu")(raw).table()
    lines = [f"{row['probability']:6.1%}  {row['class']}" for _, row in expected.iterrows()]
    assert shown.splitlines() == lines


def test_a_program_of_torch_export(tmp_path):
    net = MSG3D(num_classes=4, skeleton="coco17", **SMALL).eval()
    path = export_model(net, tmp_path / "net.pt2", facts={"label_names": ["a"]})
    extra = {"msg3d_lab": ""}
    program = torch.export.load(path, extra_files=extra)
    assert json.loads(extra["msg3d_lab"]) == {"label_names": ["a"], "version": 1}
    x = torch.randn(5, 2, 9, 17, 3)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), net(x), rtol=0, atol=1e-5)
    with pytest.raises(FileExistsError):
        export_model(net, path, facts={})


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    def write_another(network, example, path, facts):
        path.write_text(facts)
        return lambda x: network(x) + 0.01 * (len(x) == 3)

    monkeypatch.setattr(export, "_write_program", write_another)
    net = MSG3D(num_classes=4, **SMALL).eval()
    with pytest.raises(ValueError, match="nothing was written"):
        export_model(net, tmp_path / "net.pt2", facts={})
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"ends in \.onnx or \.pt2"):
        export_model(net, tmp_path / "net.pth", facts={})
