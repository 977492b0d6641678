import base64

import numpy as np
import pytest

from msg3d_lab.viz.motion.player import player_record
from msg3d_lab.widgets import Player


def test_player_holds_what_a_page_shows(body, make_walk):
    clip = make_walk(num_frames=8)
    player = Player(clip, body, title="walk", fps=20, frame=3)
    assert player.data["clips"] == [player_record(clip, body, title="walk", fps=20)]
    assert (player.frame, player.joint, player.playing) == (3, -1, False)
    assert "Run or trust this cell" in player.html()
    assert "walk" in player.describe()


def levels(record):
    return np.frombuffer(base64.b64decode(record["levels"]), np.uint8).reshape(record["shape"])


def test_two_clips_have_one_scale(body, make_walk):
    clip = make_walk(num_frames=4)
    values = np.zeros((4, 25))
    values[1, 7] = 1
    player = Player(
        clip, body, second=clip[:, :3], values=4 * values, second_values=values[:3], title="a"
    )
    first, second = player.data["clips"]
    assert (first["limit"], second["limit"]) == (4, 4)
    assert levels(first)[0, 1, 7] == 254
    assert levels(second)[0, 1, 7] == 64  # a quarter of 254
    one = Player(clip, body, values=values).figure()
    assert player.figure().get_size_inches()[1] > 1.8 * one.get_size_inches()[1]
    assert player.describe().endswith("(4 frames, 3 frames)")


def test_player_refuses_frames_and_joints_it_does_not_have(body, make_walk):
    clip = make_walk(num_frames=4)
    player = Player(clip, body, second=make_walk(num_frames=6))
    player.frame = 5  # of the longer clip
    for name, value in (("frame", 6), ("frame", -1), ("joint", 25)):
        with pytest.raises(ValueError, match=f"{name} .*found {value}"):
            setattr(player, name, value)
    with pytest.raises(ValueError, match="frame goes from 0 to 3, found 4"):
        Player(clip, body, frame=4)
    with pytest.raises(ValueError, match="give it as second"):
        Player(clip, body, second_values=np.ones((4, 25)))
    with pytest.raises(ValueError, match=r"expected a clip \(M, T, V, C\)"):
        Player(clip[0], body)
