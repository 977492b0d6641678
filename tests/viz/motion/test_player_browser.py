"""The report in a real browser: players animate, pause and scrub; nothing is fetched or logged."""

import os

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from msg3d_lab import skeletons, viz
from msg3d_lab.reporting.page import render_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory, body, make_walk):
    coco = skeletons.get("coco17")
    flat = np.ones((1, 30, 17, 3))
    flat[..., :2] = viz.body_layout(coco) * [1, -1]
    flat[..., 0] += np.linspace(0, 0.5, 30)[:, None]
    late = np.zeros((60, 25))
    late[30:, [7, 11]] = 1, -1  # both hands, in the second half
    page = render_report(
        title="Report",
        subtitle="For a test",
        synthetic=True,
        facts={"seed": "1"},
        results=pd.DataFrame({"top-1 %": [90.0]}),
        figures=[("Hops", viz.disentangled_figure(body, focus=6))],
        players=[
            viz.player_html(make_walk(), body, title="walk"),
            viz.player_html(make_walk(persons=2), body, title="two walk"),
            viz.player_html(flat, coco, title="flat"),
            viz.player_html(make_walk(persons=2), body, title="hands", values=late),
        ],
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture
def open_report(chromium, report):
    """Open the report in a context of its own; at the end nothing was fetched or logged."""
    noise, contexts = [], []

    def open_it(*, script="", **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(script)
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda request: noise.append(request.url))
        page.goto(report.as_uri())
        return page

    yield open_it
    fetched_or_said = [line for line in noise if not line.startswith(("data:", "file:"))]
    assert fetched_or_said == []
    assert sum(line.startswith("file:") for line in noise) == len(contexts)
    for context in contexts:
        context.close()


def frame(player):
    return int(player.get_attribute("data-frame"))


def changes(page, player, name, old):
    """Wait until an attribute is another one than `old`."""
    page.wait_for_function(
        "([player, name, old]) => player.getAttribute(name) !== old",
        arg=[player.element_handle(), name, old],
        timeout=5000,
    )


def test_players_play_pause_and_play_on(open_report):
    page = open_report()
    players = page.locator(".msg3d-player")
    assert players.count() == 4
    player = players.nth(1)
    player.scroll_into_view_if_needed()
    changes(page, player, "data-frame", "0")
    button = player.get_by_role("button", name="Pause")
    button.click()
    assert player.get_attribute("data-playing") == "false"
    stopped = frame(player)
    page.wait_for_timeout(200)
    assert frame(player) == stopped
    player.get_by_role("button", name="Play").click()
    changes(page, player, "data-frame", str(stopped))


# A browser may hand the first frame a time before the call that asked for it; this one always does.
LATE_CLOCK = """
const ask = window.requestAnimationFrame;
window.requestAnimationFrame = (draw) => ask((now) => draw(now - 80));
window.frames = [];
new MutationObserver((changes) => changes.forEach(({target}) =>
  target.dataset.frame && window.frames.push(Number(target.dataset.frame))))
  .observe(document, {attributeFilter: ["data-frame"], subtree: true});
"""


def test_players_draw_frames_of_the_clip(open_report):
    page = open_report(script=LATE_CLOCK)
    page.wait_for_function("() => window.frames.length > 12", timeout=5000)
    frames = page.evaluate("() => window.frames")
    assert min(frames) >= 0
    assert max(frames) < 60
    inked = page.locator(".msg3d-player canvas").first.evaluate(
        """canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
             .data.filter((value, i) => i % 4 === 3 && value > 0).length"""
    )
    assert inked > 1000


def test_players_are_used_by_keyboard(open_report):
    page = open_report(reduced_motion="reduce")
    player = page.locator(".msg3d-player").first
    canvas, slider = player.locator("canvas"), player.locator("input")
    canvas.focus()
    for key, expected in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 59)):
        page.keyboard.press(key)
        assert frame(player) == expected
    page.keyboard.press("Home")
    view = player.get_attribute("data-view")
    page.keyboard.press("Shift+ArrowRight")
    assert player.get_attribute("data-view") != view
    page.keyboard.press("Space")
    assert player.get_attribute("data-playing") == "true"
    slider.focus()
    page.keyboard.press("End")
    assert frame(player) == 59
    assert player.get_attribute("data-playing") == "false"
    assert slider.get_attribute("aria-valuetext") == "frame 60 of 60, 1.97 seconds"


def test_players_turn_when_dragged_unless_flat(open_report):
    page = open_report(reduced_motion="reduce")
    for number, turns in ((0, True), (2, False)):
        player = page.locator(".msg3d-player").nth(number)
        canvas = player.locator("canvas")
        canvas.scroll_into_view_if_needed()
        before = player.get_attribute("data-view")
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + 80, box["y"] + 80)
        page.mouse.down()
        page.mouse.move(box["x"] + 140, box["y"] + 90, steps=4)
        page.mouse.up()
        assert (player.get_attribute("data-view") != before) == turns


def test_players_wait_for_readers_who_ask_for_less_motion(open_report):
    page = open_report(reduced_motion="reduce")
    player = page.locator(".msg3d-player").first
    page.wait_for_timeout(200)
    assert frame(player) == 0
    assert player.get_attribute("data-playing") == "false"


# On a copy: reading the page's own canvas twice makes the browser complain.
COUNTS = """(canvas, colors) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const pen = copy.getContext("2d", {willReadFrequently: true});
  pen.drawImage(canvas, 0, 0);
  const {data} = pen.getImageData(0, 0, canvas.width, canvas.height);
  const counts = {};
  for (let i = 0; i < data.length; i += 4)
    if (data[i + 3] === 255) {
      const hex = "#" + [0, 1, 2].map((k) => data[i + k].toString(16).padStart(2, "0")).join("");
      counts[hex] = (counts[hex] || 0) + 1;
    }
  return colors.map((color) => counts[color] || 0);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_players_colour_and_size_joints_by_their_values_then(open_report, scheme):
    page = open_report(reduced_motion="reduce", color_scheme=scheme)
    player = page.locator(".msg3d-player").nth(3)
    canvas = player.locator("canvas")
    colors = [to_hex(viz.style.diverging()(value)) for value in (0.0, 0.5, 1.0)]
    canvas.focus()
    for key, acts in (("Home", False), ("End", True)):
        page.keyboard.press(key)
        against, nothing, speaks = canvas.evaluate(COUNTS, colors)
        assert (against > 100, speaks > 100) == (acts, acts)
        assert nothing > 100
    # A joint of value 0 is smaller than one that speaks for the class.
    assert nothing / 23 < 0.5 * speaks
    assert player.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"
    assert "share of importance (unitless)" in player.inner_text()
    assert player.locator(".ends").inner_text().split() == ["-1", "0", "1"]
    assert "share of importance" in canvas.get_attribute("aria-label")


def test_report_fits_the_screen(open_report):
    folder = os.environ.get("REPORT_SCREENSHOTS")
    page = open_report()
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if folder:
                page.screenshot(path=f"{folder}/{scheme}-{width}.png", full_page=True)
