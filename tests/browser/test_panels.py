"""The panels that follow runs, in a real JupyterLab: a run is started, stopped and resumed."""

import os
import re
import signal

import pytest
from made_runs import made_run

from msg3d_lab.training import recipes
from msg3d_lab.training.activity import read_activity

LONG = 120_000  # milliseconds: a process that trains imports torch first


@pytest.fixture
def endless(toy_recipe, tmp_path):
    path = tmp_path / "toy.yaml"
    recipes.save(recipes.with_settings(toy_recipe, ["epochs=40000", "validate_every=0"]), path)
    return path


@pytest.fixture
def made(tmp_path):
    """Three runs with scores; one has a report."""
    for seed, (name, right) in enumerate((("a", 0.7), ("b", 0.95), ("deep/c", 0.5))):
        settings = [f"seed={seed}", f"epochs={10 + seed}"]
        run = made_run(
            tmp_path / "runs" / name, "synthetic-joint", settings=settings, seed=seed, right=right
        )
        rows = [(e, 0.1 / e, 2 / e, 0.1 * e, 0.08 * e + 0.02 * seed) for e in range(1, 11)]
        names = ("epoch", "lr", "train_loss", "train_top1", "test_top1")
        run.write_metrics([dict(zip(names, row, strict=True)) for row in rows])
    (tmp_path / "runs/a/report.html").write_text("<h1>the report of a</h1>")
    return tmp_path / "runs"


def rows_of(page):
    table = page.get_by_role("table", name="runs", exact=True)
    return [row.get_attribute("data-id") for row in table.locator("tbody tr").all()]


def state(page, name):
    return page.locator(f".monitor .state[data-state={name}]")


def restart_and_run_all(page):
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_text(re.compile("^Restart Kernel and Run All Cells")).click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()


def test_a_run_is_started_watched_stopped_and_resumed(
    jupyter, page, endless, toy_store, tmp_path, screenshot
):
    run = tmp_path / "live" / "toy"
    cell = (
        "from msg3d_lab.widgets import TrainingPanel\n"
        f"TrainingPanel({str(endless)!r}, data={str(toy_store.path)!r}, run={str(run)!r})"
    )
    notebook = jupyter.notebook("training", cell)
    jupyter.open(page, notebook)
    jupyter.run_all(page)
    # A value that the settings refuse is explained beside its field, and nothing can be started.
    epochs = page.get_by_label("epochs", exact=True)
    epochs.fill("0")
    page.get_by_text("expected 1 or more, found 0").wait_for()
    start = page.get_by_role("button", name="start training")
    assert start.is_disabled()
    epochs.fill("30000")
    page.get_by_text("forward, per clip").wait_for(timeout=LONG)
    screenshot(page, "form")
    start.click()
    state(page, "training").wait_for(timeout=LONG)
    page.get_by_text("clips/s").first.wait_for(timeout=LONG)
    page.locator(".monitor svg polyline").first.wait_for(timeout=LONG)
    curve = page.locator(".monitor svg polyline").first.get_attribute("points")
    page.wait_for_function(
        "old => document.querySelector('.monitor polyline').getAttribute('points') != old",
        arg=curve,
    )
    screenshot(page, "training")
    assert recipes.load(run / "recipe.yaml").training.epochs == 30000
    page.get_by_role("button", name="stop").click()
    state(page, "stopped").wait_for(timeout=LONG)
    assert (run / "resume.pt").is_file()
    page.get_by_text("stopped: the checkpoint is of").wait_for()
    page.get_by_role("button", name="resume").click()
    state(page, "training").wait_for(timeout=LONG)
    process = read_activity(run).pid
    # The process is none of the kernel's: it goes on, and the same call shows it again. While pages
    # load it waits, so that it does not take their processor.
    os.kill(process, signal.SIGSTOP)
    restart_and_run_all(page)
    page.locator(".monitor").wait_for(state="detached")
    state(page, "training").wait_for(timeout=LONG)
    assert read_activity(run).pid == process
    jupyter.save(page)
    page.reload()
    state(page, "training").wait_for(timeout=LONG)
    screenshot(page, "reloaded")
    os.kill(process, signal.SIGCONT)
    page.get_by_role("button", name="stop").click()
    state(page, "stopped").wait_for(timeout=LONG)
    assert read_activity(run).pid is None


def test_runs_are_sorted_filtered_and_compared(jupyter, page, made, screenshot):
    cell = f"from msg3d_lab.widgets import RunBrowser\nbrowser = RunBrowser({str(made)!r})\nbrowser"
    notebook = jupyter.notebook("runs", cell, "print('selected', browser.selected)")
    jupyter.open(page, notebook)
    jupyter.run_all(page)
    page.get_by_role("button", name="top-1").click()
    assert rows_of(page) == ["deep/c", "a", "b"]
    page.get_by_role("button", name="top-1").press("Enter")
    assert rows_of(page) == ["b", "a", "deep/c"]
    search = page.get_by_label("filter runs")
    search.fill("tested top-1>60")
    page.get_by_text("2 of 3").wait_for()
    assert rows_of(page) == ["b", "a"]
    search.fill("")
    page.get_by_label("select b").check()
    page.locator(".comparison figcaption").wait_for()
    page.get_by_label("select a").press("Space")
    page.get_by_role("table", name="paired differences").get_by_text("b − a").wait_for()
    settings = page.get_by_role("table", name="settings that differ")
    assert settings.locator("tbody tr").count() == 2  # the seed and the epochs
    assert page.get_by_role("table", name="recall by class").locator("tbody tr").count() == 7
    assert page.locator(".comparison svg polyline").count() == 2
    screenshot(page, "compared")
    with page.context.expect_page() as opened:
        page.get_by_role("table", name="runs", exact=True).get_by_role(
            "button", name="open"
        ).click()
    opened.value.frame_locator("iframe").get_by_text("the report of a").wait_for()
    page.locator(".jp-CodeCell").nth(1).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.get_by_text("selected ['b', 'a']").wait_for()


def test_an_ablation_fills_its_table(jupyter, page, toy_recipe, toy_store, tmp_path, screenshot):
    recipes.save(toy_recipe, tmp_path / "toy.yaml")
    cell = f"""
from msg3d_lab.experiments import Grid
from msg3d_lab.widgets import AblationBoard
grid = Grid(name="toy", title="Toy variants", source="", recipe={str(tmp_path / "toy.yaml")!r},
            seeds=(1,), variants=[dict(name="k2", set=dict(num_gcn_scales=2)),
                                  dict(name="k3", compare_with="k2")])
AblationBoard(grid, runs={str(tmp_path / "runs")!r}, data={str(toy_store.path)!r}, device="cpu")
"""
    notebook = jupyter.notebook("ablation", cell)
    jupyter.open(page, notebook)
    jupyter.run_all(page)
    page.get_by_role("button", name="start", exact=True).click()
    page.get_by_text("1 of 2", exact=True).wait_for(timeout=LONG)
    screenshot(page, "half")
    page.get_by_text("2 of 2", exact=True).wait_for(timeout=LONG)
    page.get_by_text("k3 − k2").wait_for(timeout=LONG)
    page.locator(".facts .state[data-state=tested]").wait_for(timeout=LONG)
    screenshot(page, "tested")


def test_a_page_without_a_kernel_sorts_and_filters(page, made, tmp_path, screenshot):
    from msg3d_lab.widgets import RunBrowser, RunMonitor

    browser, monitor = RunBrowser(made, selected=["b", "a"]), RunMonitor(made / "a")
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><title>page</title>{browser.html()}{monitor.html()}")
    page.goto(path.as_uri())
    page.get_by_role("button", name="top-1").click()
    assert rows_of(page) == ["deep/c", "a", "b"]
    page.get_by_label("filter runs").fill("deep")
    assert rows_of(page) == ["deep/c"]
    page.get_by_role("table", name="paired differences").get_by_text("b − a").wait_for()
    assert page.get_by_label("select deep/c").is_disabled()
    assert page.get_by_role("button", name="test").count() == 0
    chart = page.locator(".comparison svg[tabindex]")
    chart.focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_text("epoch 10:").wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_text("epoch 9:").wait_for()
    for scheme, width in (("dark", 900), ("light", 1600)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        screenshot(page, f"{scheme}-{width}")
