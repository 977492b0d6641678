"""The explorers of graphs, driven on a page without a kernel and in JupyterLab."""

import re
import time

import numpy as np
import pytest

from msg3d_lab import MSG3D, graph, skeletons
from msg3d_lab.widgets import AdjacencyExplorer, WindowExplorer

WRIST = {"joint": "left wrist", "k": 3}


@pytest.fixture
def show(page, tmp_path):
    """Show a widget on a page of its own; return a function for the pictures' pixels."""

    def show(widget):
        path = tmp_path / "page.html"
        path.write_text(f"<!doctype html><meta charset=utf-8><title>page</title>{widget.html()}")
        page.goto(path.as_uri())
        page.locator(".reading").get_by_text("k = ").wait_for()
        return lambda: page.locator("canvas").evaluate_all(
            "async (all) => { await new Promise((r) => requestAnimationFrame(r)); "
            "return all.filter((c) => c.clientWidth).map((c) => c.toDataURL()); }"
        )

    return show


def reading(page):
    page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
    return page.locator(".reading").text_content()


def says(page, text):
    """Wait until the sentence below the picture holds a text."""
    page.locator(".reading").get_by_text(text).wait_for()


def choice(page, label):
    """The drop-down with a label."""
    return page.locator("label", has_text=re.compile(f"^{label}")).locator("select")


def changed(pictures, before, place=0):
    """The pictures, as soon as one of them is another: numbers are unpacked when first needed."""
    end = time.monotonic() + 20
    while (now := pictures())[place] == before[place]:
        assert time.monotonic() < end, "the picture stays"
    return now


def test_dragging_k_changes_every_picture(page, show, screenshot):
    pictures = show(AdjacencyExplorer("ntu25", **WRIST))
    before = pictures()
    slider = page.get_by_role("slider")
    box = slider.bounding_box()
    seen = {reading(page)}
    page.mouse.move(box["x"] + box["width"] * 0.26, box["y"] + box["height"] / 2)
    page.mouse.down()
    for place in (0.4, 0.6, 0.9):  # without letting go
        page.mouse.move(box["x"] + box["width"] * place, box["y"] + box["height"] / 2)
        seen.add(reading(page))
    page.mouse.up()
    assert len(seen) == 4
    after = pictures()
    assert len(before) == len(after) == 5
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert "no joint is 11 hops away from the left wrist" in reading(page)
    screenshot(page, "nobody")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 900, "height": 900})
    changed(pictures, after)
    screenshot(page, "dark-900")


def test_values_are_those_of_the_graph(page, show):
    """The text and the bars against `graph`, for a cell and for a row."""
    show(AdjacencyExplorer("ntu25", **WRIST))
    body = skeletons.get("ntu25")
    wrist, shoulder = body.joints.index("left wrist"), body.joints.index("spine shoulder")
    scales = {
        a: graph.scale_adjacencies(body.adjacency, 4, aggregation=a) for a in graph.AGGREGATIONS
    }
    shares = {a: graph.hop_shares(s, graph.hop_distance(body.adjacency)) for a, s in scales.items()}
    text = reading(page)
    for name, share in zip(("disentangled", "adjacency powers"), shares.values(), strict=True):
        assert f"{name} {100 * share[3, 3, wrist]:.0f} %" in text
        spoken = page.get_by_role("img", name="Share of the weight").get_attribute("aria-label")
        bars = re.search(rf"{name}: ([^.]*)", spoken)[1]
        found = [int(percent) for percent in re.findall(r": (\d+) %", bars)]
        np.testing.assert_allclose(found, 100 * share[3, :, wrist], atol=0.51)
    matrix = page.get_by_label("Matrix, disentangled")
    matrix.focus()
    for _ in range(shoulder - wrist + 1):
        page.keyboard.press("ArrowRight")
    text = reading(page)
    assert "the left wrist receives from the spine shoulder (3 hops away)" in text
    for name, matrices in scales.items():
        weight = matrices[3, wrist, shoulder]
        assert f"{name} {weight:.{2 if weight >= 0.1 else 3}f}" in text
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("+")
    assert reading(page).startswith("k = 4: the left hand has")


def test_cell_row_and_joint_are_linked(page, show, screenshot):
    pictures = show(AdjacencyExplorer("ntu25", aggregation="disentangled", **WRIST))
    assert len(pictures()) == 3
    matrix, body = page.get_by_label("Matrix, dis"), page.get_by_label("Body, dis")
    box = matrix.bounding_box()
    pinned = pictures()
    matrix.hover(position={"x": box["width"] * 0.6, "y": 30})
    assert re.search(r"the [\w ]+ receives from the", reading(page))
    hovered = pictures()
    assert hovered[0] != pinned[0]
    assert hovered[1] != pinned[1]
    page.mouse.move(5, 5)
    assert pictures() == pinned
    matrix.click(position={"x": 10, "y": 8})  # the name of the first row
    assert reading(page).startswith("k = 3: the spine base has")
    assert choice(page, "joint").input_value() == "spine base"
    body.focus()
    page.keyboard.press("ArrowUp")
    assert reading(page).startswith("k = 3: the spine middle")
    page.keyboard.press("Shift+ArrowUp")
    assert "the spine middle receives from the spine shoulder (1 hop away)" in reading(page)
    screenshot(page, "cell")
    page.set_viewport_size({"width": 1600, "height": 900})
    screenshot(page, "1600")


def test_layout_edge_set_and_masks(page, show, screenshot):
    model = MSG3D(
        num_classes=2, edge_set="star", base_channels=6, num_gcn_scales=4, num_g3d_scales=2
    )
    for name, parameter in model.named_parameters():
        if name.endswith("A_res"):
            parameter.data.normal_(0, 0.1)
    explorer = AdjacencyExplorer("ntu25", layouts=["coco17"], masks=model, learned="off", **WRIST)
    pictures = show(explorer)
    chain = pictures()
    choice(page, "edge set").select_option("star")
    star = changed(pictures, chain)
    choice(page, "layout").select_option("coco17")
    coco = changed(pictures, star)
    choice(page, "joint").select_option("nose")
    assert reading(page).startswith("k = 3: the nose has")
    choice(page, "learned mask").select_option("added")
    added = changed(pictures, coco)
    assert choice(page, "layout").is_disabled()
    assert choice(page, "edge set").input_value() == "star"
    assert "disentangled (mask added)" in reading(page)
    added = pictures()
    choice(page, "learned mask").select_option("alone")
    alone = pictures()
    assert alone[0] != added[0]
    assert alone[2] == added[2]
    screenshot(page, "alone")
    choice(page, "of").select_option("block2.factorized")
    changed(pictures, alone)
    page.get_by_role("slider").fill("7")
    assert "The network has no scale 7" in reading(page)


def test_python_and_the_explorer_follow_each_other(jupyter, page, screenshot):
    notebook = jupyter.notebook(
        "adjacency",
        "from msg3d_lab.widgets import AdjacencyExplorer\n"
        'explorer = AdjacencyExplorer("ntu25", k=3, joint="left wrist")\nexplorer',
        "explorer.k = 5",
        "print('has', explorer.k, explorer.joint, explorer.sender)",
    )
    jupyter.open(page, notebook)
    jupyter.run_all(page)
    page.locator(".reading").get_by_text("k = 5: the left wrist").wait_for()
    page.get_by_label("Matrix, disentangled").focus()
    for key in ("+", "ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
    page.locator(".reading").get_by_text("k = 6: the left elbow receives from the").wait_for()
    page.locator(".jp-CodeCell").nth(2).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.get_by_text("has 6 left elbow left elbow").wait_for()
    screenshot(page, "kernel")


def test_the_window_turns_and_its_edges_follow(page, show, screenshot):
    pictures = show(WindowExplorer("ntu25", joint="left wrist"))
    seen = [pictures()]
    assert "8 joints of the window at 1 hop from the left wrist at t" in reading(page)
    canvas = page.get_by_label("Window in space and time")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 40)
    page.mouse.down()
    for x in (340, 420):  # it turns while it is dragged
        page.mouse.move(box["x"] + x, box["y"] + 60)
        seen.append(pictures())
    page.mouse.up()
    canvas.focus()
    for key in ("Shift+ArrowLeft", "Shift+ArrowUp", "ArrowUp", ".", "+"):
        page.keyboard.press(key)
        reading(page)
        seen.append(pictures())
    assert len({picture for (picture,) in seen}) == len(seen)
    assert reading(page).startswith("k = 2, dense:")
    assert "left elbow at t+1" in reading(page)
    choice(page, "edges").select_option("grid")
    page.get_by_label("window τ").fill("5")
    page.get_by_label("dilation").fill("2")
    assert "from the left elbow at t" in reading(page)
    assert "t−4" in reading(page) or "t−2" in reading(page)
    screenshot(page, "grid")
    page.get_by_label("hops k").fill("18")
    assert "no joint of the window is 18 hops away" in reading(page)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 900, "height": 900})
    screenshot(page, "dark-900")


def test_masks_in_the_window(page, show, screenshot):
    model = MSG3D(num_classes=2, base_channels=6, num_gcn_scales=2, num_g3d_scales=3)
    for name, parameter in model.named_parameters():
        if name.endswith("A_res"):
            parameter.data.normal_(0, 0.1)
    explorer = WindowExplorer(masks=model, joint="left wrist")
    pictures = show(explorer)
    says(page, "mask added: the left wrist at t receives")
    assert not page.get_by_label("window τ").is_visible()  # the network's
    added = pictures()
    choice(page, "learned mask").select_option("alone")
    changed(pictures, added)
    explorer.learned = "alone"  # what Python says of the same picture
    largest = explorer.describe().split("are from ")[1].split(" (")[0]
    says(page, f"with the largest weights from the {largest} (")
    screenshot(page, "alone")
    choice(page, "graph").select_option("block2.g3d.window3")
    says(page, "only a kernel sends the mask of block2.g3d.window3")
    choice(page, "graph").select_option("block1.g3d.window3")
    page.get_by_label("hops k").fill("3")
    says(page, "the network has no scale 3")
    choice(page, "learned mask").select_option("off")
    says(page, "k = 3, dense:")
    assert page.get_by_label("window τ").is_visible()
