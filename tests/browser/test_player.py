"""The player as a widget: with a kernel, and on a page without one."""

import numpy as np
import pytest

from msg3d_lab.widgets import Player

CELL = """
import numpy as np
import msg3d_lab as lab

body = lab.skeletons.get("ntu25")
clip = np.zeros((1, 40, 25, 3))
clip[0, ..., [0, 2]] = (lab.viz.body_layout(body) * [-1, 1]).T[:, None]
clip[0, :, 8:12, 1] += np.sin(np.arange(40) / 5)[:, None] / 3
player = lab.widgets.Player(clip, body, second=clip[:, :30], title="long", second_title="short")
player
"""
INK = """canvas => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const pen = copy.getContext("2d", {willReadFrequently: true});
  pen.drawImage(canvas, 0, 0);
  return pen.getImageData(0, 0, canvas.width, canvas.height).data.join();
}"""


@pytest.fixture
def opened(page, tmp_path, body, make_walk, screenshot):
    clip = make_walk(num_frames=40)
    hands = np.zeros((40, 25))
    hands[20:, [7, 11]] = 1, -1
    widget = Player(
        clip,
        body,
        second=make_walk(num_frames=30),
        values=hands,
        title="walk",
        second_title="a shorter walk",
    )
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><title>page</title>{widget.html()}")
    page.goto(path.as_uri())
    page.locator(".msg3d-player canvas").first.wait_for()
    yield page
    for scheme in ("light", "dark"):
        for width in (900, 1600):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            screenshot(page, f"{scheme}-{width}")


def test_two_clips_are_turned_marked_and_stepped_without_a_kernel(opened):
    page, player = opened, opened.locator(".msg3d-player")
    first, second = player.locator("canvas").all()
    assert player.get_attribute("data-playing") == "false"
    assert not page.get_by_alt_text("Moving skeletons").is_visible()
    pictures = [first.evaluate(INK), second.evaluate(INK)]
    first.focus()
    page.keyboard.press("End")
    assert player.get_attribute("data-frame") == "39"
    moved = [first.evaluate(INK), second.evaluate(INK)]
    assert all(now != before for now, before in zip(moved, pictures, strict=True))
    page.keyboard.press("ArrowLeft")  # the shorter one waits in its last frame
    assert second.evaluate(INK) == moved[1]
    assert first.evaluate(INK) != moved[0]
    page.keyboard.press("j")
    assert player.locator(".joint").inner_text().startswith("spine base")
    page.keyboard.press("Escape")
    box = first.bounding_box()
    page.mouse.move(box["x"] + 80, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 90, steps=3)
    page.mouse.up()
    assert second.evaluate(INK) != moved[1]  # both are turned
    plain = second.evaluate(INK)
    player.get_by_label("Trails").select_option("30")
    assert second.evaluate(INK) != plain
    player.get_by_role("button", name="Play").click()
    page.wait_for_function(
        "() => document.querySelector('.msg3d-player').dataset.frame !== '38'", timeout=5000
    )
    assert not [text for text in page.errors if "error" in text.lower()]


def test_python_and_the_player_follow_each_other(jupyter, page, screenshot):
    set_frame = "player.frame, player.trail = 12, 10"
    notebook = jupyter.notebook("player", CELL, set_frame, "print('is', player.frame)")
    jupyter.open(page, notebook)
    jupyter.run_all(page)
    player = page.locator(".msg3d-lab .msg3d-player")
    page.wait_for_function("() => document.querySelector('.msg3d-player').dataset.frame === '12'")
    assert player.get_by_label("Trails").input_value() == "10"
    player.locator("canvas").first.focus()
    page.keyboard.press("ArrowRight")
    page.locator(".jp-CodeCell").nth(2).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.get_by_text("is 13").wait_for()
    screenshot(page, "kernel")
