import numpy as np
import pytest
import torch

from msg3d_lab import explain
from msg3d_lab.explain import GradientInput, Occlusion, RandomNumbers
from msg3d_lab.widgets import ImportanceExplorer


@pytest.fixture(scope="module")
def explorer(toy_run, toy_store):
    methods = (GradientInput(), Occlusion(), RandomNumbers())
    return ImportanceExplorer(
        toy_run, toy_store, clips=toy_store.ids[36:39], methods=methods, num_segments=4, ahead=1
    )


def test_the_exact_parts_add_up_to_the_logit(explorer, toy_run, toy_store):
    label = explorer.data["predicted"][0]
    result = explorer.results[f"0 gradient_x_input {label}"]
    clips = explain.load_clips(toy_run, np.array([36]), data=toy_store)
    with torch.no_grad():
        logits = toy_run.model()(clips.x)[0]
    assert result["logit"] == pytest.approx(float(logits[label]), abs=1e-5)
    assert sum(value for _, value in result["exact"]) == pytest.approx(result["logit"], abs=1e-5)
    assert result["exact"][0][0] == "bias"


def test_what_is_chosen_is_computed_as_explain_does(explorer, toy_run, toy_store):
    explorer.clip, explorer.method, explorer.explained = 1, "occlusion", 2
    explorer.wait()
    result = explorer.results["1 occlusion 2"]
    clips = explain.load_clips(toy_run, np.array([36, 37, 38]), data=toy_store)
    options = explain.Options(by="joint_x_segment", num_segments=4)
    question = clips.question(torch.tensor([2, 2, 2]), options)
    values = explain.attribute(toy_run.model(), question, Occlusion())[1]
    assert sum(value for _, value in result["parts"]) == pytest.approx(values.sum(), abs=1e-4)
    assert result["record"]["limit"] == pytest.approx(np.abs(values).max(), abs=1e-4)
    assert explorer.progress == ""
    assert "occlusion for right up" in explorer.describe()
    heatmap, colors = explorer.figure().axes
    drawn = heatmap.collections[0].get_array()
    np.testing.assert_allclose(np.ravel(drawn), values, atol=1e-6)
    assert colors.get_ylabel() == "importance (logit)"
    assert toy_store.ids[37] in explorer.data["clips"][1]


def test_what_was_computed_stays(explorer):
    explorer.wait()
    known = dict(explorer.results)
    with explorer.hold_trait_notifications():  # nothing between the old and the new is asked for
        explorer.clip, explorer.method, explorer.explained = 0, "gradient_x_input", -1
    explorer.wait()
    assert explorer.results == known
    assert all(key in explorer.html() for key in known)


def test_importance_explorer_refuses(explorer, toy_run, toy_store):
    for name, value in (("clip", 3), ("method", "guess"), ("explained", 3)):
        with pytest.raises(ValueError, match=f"{name}.*found {value}"):
            setattr(explorer, name, value)
    with pytest.raises(ValueError, match="found 1 of 1 missing"):
        ImportanceExplorer(toy_run, toy_store, clips=["nobody"])


def test_a_failure_is_said(explorer, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(explorer, "_compute", fail)
    explorer.clip, explorer.method = 2, "random"
    explorer.wait()
    assert explorer.progress == "failed: out of memory"
