import numpy as np
import pytest

from msg3d_lab.explain import METHODS, importance_of, load_clips, predictions_of


@pytest.fixture
def asked(run, toy_store):
    """The network, seven clips and what is asked about them."""
    model, clips = run.model(), load_clips(run, toy_store.indices("xsub_val")[:7])
    return model, clips, {"samples": 2, "steps": 3, "features": clips.features("joint")}


def test_shapley_orders_go_with_the_clips_names(asked, run, toy_store):
    """In any company and batch a clip has the same orders; under another name it has others."""
    model, clips, given = asked
    given |= {"method": "shapley", "classes": predictions_of(model, clips.x)}
    whole = importance_of(model, clips, **given)
    turned = load_clips(run, clips.indices[::-1])
    classes = given.pop("classes").flip(0)
    again = importance_of(model, turned, classes=classes, batch_size=3, **given)
    np.testing.assert_allclose(again[::-1], whole, atol=1e-6)
    others = importance_of(model, turned, classes=classes, seed=1, **given)
    assert np.abs(others[::-1] - whole).max() > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_no_method_asks_about_more_clips_at_a_time_than_it_may(method, asked):
    model, clips, given = asked
    seen, classes = [], predictions_of(model, clips.x)
    handle = model.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    for batch_size in (1, 4, 5, 16):
        seen.clear()
        importance_of(model, clips, method=method, classes=classes, batch_size=batch_size, **given)
        assert 0 < max(seen) <= batch_size
    handle.remove()
