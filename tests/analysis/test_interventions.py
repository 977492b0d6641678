import pytest
import torch

from msg3d_lab.analysis import mean, only, run_with_cache, run_with_interventions, zero
from msg3d_lab.analysis.interventions import replace


@pytest.fixture
def pooled(network, batch):
    return run_with_cache(network, batch, names=["pooled"])[1]["pooled"]


def changed(network, batch, intervention):
    _, cache = run_with_cache(
        network, batch, names=["pooled"], interventions={"pooled": intervention}
    )
    return cache["pooled"]


def test_mean_at_the_pooled_point_is_over_the_axes_it_has(network, batch, pooled):
    """Persons, frames and joints are averaged there already."""
    expected = pooled.mean(dim=0).expand_as(pooled)
    torch.testing.assert_close(changed(network, batch, mean()), expected)


def test_only_at_the_pooled_point_chooses_clips_and_channels(network, batch, pooled):
    here = only(zero, clips=[0, 2], channels=[3])
    expected = pooled.clone()
    expected[0, 3] = expected[2, 3] = 0
    torch.testing.assert_close(changed(network, batch, here), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["persons", "frames", "joints"])
def test_only_refuses_an_axis_that_the_pooled_point_does_not_have(network, batch, name):
    here = only(zero, **{name: [0]})
    with pytest.raises(ValueError, match=rf"no {name}: its shape is \(3, \d+\)"):
        run_with_interventions(network, batch, {"pooled": here})


def test_replace_gives_what_it_was_given(pooled):
    other = torch.ones_like(pooled)
    assert replace(other)(pooled) is other
