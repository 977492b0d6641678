import pytest

from msg3d_lab.viz.widgets import hop_slider


def test_hop_slider_redraws_when_moved(body):
    explorer = hop_slider(body, focus=6, k=2, num_scales=5)
    first = bytes(explorer.picture.value)
    assert first.startswith(b"\x89PNG")
    explorer.k.value = 3
    second = bytes(explorer.picture.value)
    assert second != first
    explorer.joint.value = body.joints.index("head")
    assert bytes(explorer.picture.value) != second
    assert explorer.k.max == 4
    assert explorer.controls.children == (explorer.k, explorer.joint)


def test_hop_slider_leaves_a_sentence_where_there_is_no_kernel(body):
    assert "slider for k" in repr(hop_slider(body).controls)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"k": 13}, "k goes from 0 to"), ({"k": -1}, "k goes"), ({"focus": 25}, "0 to 24")],
)
def test_hop_slider_refuses(body, options, message):
    with pytest.raises(ValueError, match=message):
        hop_slider(body, **options)
