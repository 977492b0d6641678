import base64
import json
import re

import numpy as np
import pytest

from msg3d_lab import viz
from msg3d_lab.viz.motion.layout import to_view


def player_record(html):
    found = re.search(r'<script type="application/json" class="clip">(.*?)</script>', html, re.S)
    return json.loads(found[1])


def test_player_html_holds_the_clip(body, make_walk):
    clip = np.concatenate([make_walk(num_frames=7), np.zeros((1, 7, 25, 3))])
    record = player_record(viz.player_html(clip, body, title="walk"))
    assert record["shape"] == [2, 7, 25]
    assert not record["flat"]
    units = np.frombuffer(base64.b64decode(record["coordinates"]), "<i2").reshape(2, 7, 25, 3)
    assert (units[1] == -32768).all()
    points = to_view(clip, body)[0][0]
    scale = np.ptp(points, axis=(0, 1)).max() / np.ptp(units[0].astype(float), axis=(0, 1)).max()
    differences = units[0, :, 1:].astype(float) - units[0, :, :1]
    np.testing.assert_allclose(differences * scale, points[:, 1:] - points[:, :1], atol=2e-4)


def test_player_html_escapes_its_title_and_fetches_nothing(body, make_walk):
    html = viz.player_html(make_walk(), body, title='</figure><script>alert("x")</script>')
    assert "<script>alert" not in html
    assert html.count("</figure>") == 1
    assert html.count("<script") == html.count("</script>") == 2
    assert html.count('src="data:image/png') == 1  # where scripts may not run
    assert not re.search(r"https?://|src=\"(?!data:)|import ", html)


def test_player_html_of_an_empty_clip_is_no_error(body):
    record = player_record(viz.player_html(np.zeros((1, 2, 25, 3)), body, title="nobody"))
    assert record["shape"] == [1, 2, 25]


def test_player_html_wants_a_frame_rate(body, make_walk):
    with pytest.raises(ValueError, match="fps must be above 0"):
        viz.player_html(make_walk(), body, title="walk", fps=0)


def levels_of(record):
    return np.frombuffer(base64.b64decode(record["levels"]), np.uint8).reshape(record["shape"])


def test_player_html_with_values_has_0_in_the_middle_of_the_colours(body, make_walk):
    clip = make_walk(num_frames=3, persons=2)
    values = np.linspace(-0.5, 1, 2 * 3 * 25).reshape(2, 3, 25)
    values[1, 2, 7] = 0
    html = viz.player_html(clip, body, title="walk <fast>", values=values)
    record = player_record(html)
    levels = levels_of(record)
    assert record["signed"]
    assert (levels[0, 0, 0], levels[1, 2, 7], levels[1, 2, 24]) == (64, 127, 254)
    np.testing.assert_allclose(levels, 127 + 127 * values, atol=0.51)
    assert len(record["colors"]) == 255
    red, _, blue = (int(record["colors"][254][i : i + 2], 16) for i in (1, 3, 5))
    assert red > blue + 50
    assert record["title"] == "walk <fast>"
    assert "<fast>" not in html
    assert record["ends"] == ["-1", "0", "1"]
    assert record["limit"] == 1
    assert "levels" not in player_record(viz.player_html(clip, body, title="walk"))


def test_player_html_without_negative_values_goes_from_0_up(body, make_walk):
    values = np.arange(3 * 25.0).reshape(3, 25)  # the same for both persons
    html = viz.player_html(make_walk(num_frames=3, persons=2), body, title="walk", values=values)
    record = player_record(html)
    assert not record["signed"]
    np.testing.assert_allclose(levels_of(record)[1], values / 74 * 254, atol=0.51)
    assert "share of importance (unitless)" in html
    zeros = viz.player_html(make_walk(num_frames=3), body, title="walk", values=values * 0)
    assert not levels_of(player_record(zeros)).any()


@pytest.mark.parametrize("values", [np.ones((1, 3, 24)), np.ones(25), np.full((1, 3, 25), np.nan)])
def test_player_html_refuses_values_that_are_not_the_clips(body, make_walk, values):
    with pytest.raises(ValueError, match=r"expected finite values \(1, 3, 25\) or \(3, 25\)"):
        viz.player_html(make_walk(num_frames=3), body, title="walk", values=values)
