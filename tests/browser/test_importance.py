"""The importance explorer and the error browser with a kernel; the first also without one."""

import numpy as np
import pytest

from msg3d_lab.evaluation import evaluate
from msg3d_lab.widgets import ImportanceExplorer


def test_heatmap_and_player_follow_each_other(page, tmp_path, small_run, small_store, screenshot):
    widget = ImportanceExplorer(small_run, small_store, clips=small_store.ids[:3], ahead=2)
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><title>page</title>{widget.html()}")
    assert path.stat().st_size < 250_000
    page.goto(path.as_uri())
    player = page.locator(".msg3d-player")
    player.locator("canvas").wait_for()
    heatmap = page.get_by_role("application")
    box = heatmap.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + 5 * 15 + 6)
    page.wait_for_function("() => document.querySelector('.msg3d-player').dataset.frame === '15'")
    page.get_by_text("left elbow, frame 16:").wait_for()
    heatmap.focus()
    page.keyboard.press("ArrowDown")
    page.get_by_text("left wrist, frame 16:").wait_for()
    player.locator("canvas").focus()
    page.keyboard.press("Home")
    page.get_by_text("left wrist, frame 1:").wait_for()
    assert page.get_by_text("They add up to").count() == 1
    for scheme, width in (("light", 900), ("dark", 1600)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        screenshot(page, f"{scheme}-{width}")
    page.locator(".controls select").first.select_option("1")
    player.get_by_text(small_store.ids[1]).wait_for()
    page.get_by_label("method").select_option("occlusion")
    page.get_by_text("Only a kernel computes this").wait_for()


CELL = """
import msg3d_lab as lab
from msg3d_lab.training import open_run
from msg3d_lab.widgets import ErrorBrowser, ImportanceExplorer

run, store = open_run({run!r}), lab.open_store({store!r})
ErrorBrowser(run, store, packed=1)
"""


@pytest.fixture
def tested(tmp_path, small_run, small_store):
    import shutil

    from msg3d_lab.training import open_run

    run = open_run(shutil.copytree(small_run.path, tmp_path / "run"))
    found = evaluate(run, data=small_store, device="cpu", progress=False)
    assert np.any(~found.scores.correct)
    return CELL.format(run=str(run.path), store=str(small_store.path))


def test_python_sends_clips_and_importance(jupyter, page, tested, screenshot):
    notebook = jupyter.notebook("errors", tested, "ImportanceExplorer(run, store, ahead=1)")
    jupyter.open(page, notebook)
    jupyter.run_all(page)
    errors, explorer = page.locator(".jp-OutputArea-output .msg3d-lab").all()
    shown = errors.locator(".msg3d-player")
    shown.locator("canvas").first.wait_for()
    first = shown.get_attribute("data-clip")
    errors.locator(".confusions button").nth(2).click()
    page.wait_for_function(
        "first => { const clip = document.querySelector('.clips .msg3d-player').dataset.clip;"
        " return clip && clip !== first; }",
        arg=first,
    )
    screenshot(page, "errors")
    explorer.get_by_label("method").select_option("occlusion")
    explorer.get_by_text("Body parts, by this method").wait_for()
    page.wait_for_function(
        "() => !document.querySelectorAll('.jp-OutputArea-output .msg3d-lab')[1]"
        ".classList.contains('waiting')"
    )
    screenshot(page, "explorer")
