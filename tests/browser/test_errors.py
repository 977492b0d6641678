"""The error browser without a kernel: filters, cells and clips; with one: Python sends clips."""

import numpy as np
import pytest

from msg3d_lab.evaluation import Scores
from msg3d_lab.widgets import ErrorBrowser


def made(store, num_classes):
    rng = np.random.default_rng(0)
    count = len(store.ids)
    labels = np.arange(count) % num_classes
    said = np.where(rng.random(count) < 0.7, labels, (labels + 1) % num_classes)
    values = np.full((count, num_classes), 0.2 / num_classes, np.float32)
    values[np.arange(count), said] = rng.uniform(0.3, 1, count)
    names = tuple(f"action number {i}" for i in range(num_classes))
    return Scores(tuple(store.ids), labels, values / values.sum(1, keepdims=True), names)


def drawn(page):
    """Wait for the next picture."""
    page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")


@pytest.mark.parametrize("num_classes", [10, 60, 120])
def test_a_matrix_is_filtered_and_its_cells_opened(
    page, tmp_path, small_store, screenshot, num_classes
):
    scores = made(small_store, num_classes)
    wrong = ~scores.correct
    pairs = set(zip(scores.labels[wrong], scores.predictions[wrong], strict=True))
    widget = ErrorBrowser(scores, small_store, packed=3)
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><title>page</title>{widget.html()}")
    assert path.stat().st_size < 350_000
    page.goto(path.as_uri())
    player = page.locator(".msg3d-player")
    player.locator("canvas").first.wait_for()
    first = player.get_attribute("data-clip")
    if num_classes == 10:  # of many classes not each has a clip that was recognised
        assert player.locator("canvas").count() == 2
    entries = page.locator(".confusions button:visible")
    drawn(page)
    assert entries.count() == min(12, len(pairs))
    assert page.get_by_label("Clips", exact=True).locator("option").count() == wrong.sum()
    page.get_by_label("Clips", exact=True).focus()
    page.keyboard.press("ArrowDown")  # the clips that are packed come first
    assert player.get_attribute("data-clip") != first
    shown = page.locator(".clips .head")
    assert shown.inner_text().startswith("All mistakes")
    entries.nth(1).click()
    true, said = entries.nth(1).inner_text().split(":")[0].split(" → ")
    assert shown.inner_text().startswith(f"{true} taken for {said}")
    before = page.get_by_text("recognised,").inner_text()
    assert f" {100 * scores.correct.mean():.1f} % recognised" in before
    page.get_by_label("confidence from").fill("70")
    page.wait_for_function(
        "before => !document.body.innerText.includes(before)", arg=before, timeout=5000
    )
    page.get_by_label("confidence from").fill("0")
    page.get_by_text(before).wait_for()
    chosen = entries.first.inner_text().split(" → ")[0]
    page.locator(".controls select").first.select_option(chosen)
    drawn(page)
    assert entries.count() >= 1
    for text in entries.all_inner_texts():
        assert chosen in text
    matrix = page.get_by_role("application")
    matrix.focus()
    for _ in range(num_classes):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    said = matrix.get_attribute("aria-description")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        "said => document.activeElement.getAttribute('aria-description') !== said", arg=said
    )
    page.locator(".controls select").first.select_option("all")
    for scheme, width in (("light", 900), ("dark", 1600)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        screenshot(page, f"{scheme}-{width}")
    page.get_by_role("button", name="list all mistakes").click()
    entries.last.click()
    page.get_by_text("Only a kernel sends this clip").wait_for()
