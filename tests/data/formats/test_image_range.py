"""Whether 2D coordinates lie in their image, and what is refused before an import."""

from __future__ import annotations

import numpy as np
import pytest

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.image_range import image_extent, refuse_outside
from msg3d_lab.data.formats.importer import LazyClips
from msg3d_lab.data.preprocess import prepare_2d

IMAGE = {"name": "prepare_2d"}


def person(i, scale=1.0):
    pixels = np.random.default_rng(i).uniform(20, 380, (1, 4, 17, 2)) * scale
    return Clip(f"c{i}", prepare_2d(pixels, np.ones((1, 4, 17)), (400, 600)), 0)


def test_image_extent_is_in_fractions_of_the_image_and_ignores_what_is_not_seen():
    pixels = np.array([[[[60.0, 40], [540, 360], [0, 0], [5000, 9]]]])
    score = np.array([[[1.0, 0.5, 0, 0]]])
    extent = image_extent(prepare_2d(pixels, score, (400, 600)), preparation="prepare_2d")
    np.testing.assert_allclose([extent.low, extent.high], [[0.1, 0.1], [0.9, 0.9]], atol=1e-6)
    assert extent.outside == 0
    raw = image_extent(pixels[..., :3, :], image_size=(400, 600))
    np.testing.assert_allclose([raw.low, raw.high], [[0.1, 0.1], [0.9, 0.9]])
    kinetics = np.array([[[[-0.4, 0.4, 1.0], [0.4, -0.4, 1], [0, 0, 0]]]])
    np.testing.assert_allclose(image_extent(kinetics, preparation="kinetics").low, [0.1, 0.1])


def test_image_extent_of_no_image_is_none():
    points = np.ones((1, 1, 3, 3))
    assert image_extent(points, preparation="center", image_size=(4, 4)) is None
    assert image_extent(points) is None
    assert image_extent(points * 0, preparation="prepare_2d") is None
    assert image_extent(points * np.nan, preparation="prepare_2d") is None


@pytest.mark.parametrize("lazy", [True, False])
def test_refuse_outside_lets_good_clips_through_once(lazy):
    clips = [LeftOut("x", "y"), *map(person, range(50))]
    given = LazyClips(range(51), clips.__getitem__) if lazy else iter(clips)
    if lazy:
        given = clips
    assert [c.id for c in refuse_outside(given, IMAGE)] == [c.id for c in clips]


@pytest.mark.parametrize("lazy", [True, False])
def test_refuse_outside_refuses_when_a_quarter_is_wrong(lazy):
    clips = [person(i, scale=3.0 if i % 4 == 0 else 1.0) for i in range(32)]
    with pytest.raises(ValueError, match=r"8 of 32 clips that were tested .* for example c0 \(x"):
        refuse_outside(clips if lazy else iter(clips), IMAGE)
    assert refuse_outside(clips, {"name": "center"}) is clips


def test_refuse_outside_lets_a_few_clips_outside_pass_but_not_a_twentieth_of_all_joints():
    clips = [person(i, scale=3.0 if i == 5 else 1.0) for i in range(32)]
    assert refuse_outside(clips, IMAGE) is clips
    rng = np.random.default_rng(0)
    swapped = [
        Clip(f"c{i}", prepare_2d(rng.uniform(0, (640, 480), (1, 9, 17, 2)), one, (640, 480)), 0)
        for i, one in enumerate([np.ones((1, 9, 17))] * 20)
    ]
    with pytest.raises(ValueError, match="height and width of the image look swapped"):
        refuse_outside(swapped, IMAGE)
