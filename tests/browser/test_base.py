"""The base of browser widgets: with a kernel, without one, untrusted, and on a page."""

import pytest

MODULE = """
import { control, element, themed } from "./common.js";

function render({ model, el }) {
  themed(el);
  const shown = element("strong", { class: "shown" });
  const show = () => (shown.textContent = `number ${model.get("number")}`);
  model.on("change:number", show);
  show();
  el.append(control(model, "number", "number", { max: 9 }), shown);
}
export default { render };
"""
WIDGET = """
from pathlib import Path
import traitlets
from msg3d_lab import viz
from msg3d_lab.widgets.browser import BrowserWidget, module

class Number(BrowserWidget):
    _esm = module(Path({module!r}))
    number = traitlets.Int(3).tag(sync=True)

    def figure(self):
        figure, axes = viz.style.new_figure((3, 1))
        axes[0, 0].set_title(self.describe())
        return figure

    def describe(self):
        return f"The number {{self.number}}"

widget = Number()
widget
"""


@pytest.fixture
def cell(tmp_path):
    (tmp_path / "number.js").write_text(MODULE)
    return WIDGET.format(module=str(tmp_path / "number.js"))


def test_python_and_the_browser_follow_each_other(jupyter, page, cell, screenshot):
    notebook = jupyter.notebook("number", cell, "widget.number = 5", "print('has', widget.number)")
    jupyter.open(page, notebook)
    jupyter.run_all(page)
    page.get_by_text("number 5").wait_for()
    page.locator(".msg3d-lab input").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("number 6").wait_for()
    page.locator(".jp-CodeCell").nth(2).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.get_by_text("has 6").wait_for()
    screenshot(page, "kernel")


def test_a_page_without_a_kernel(page, cell, tmp_path):
    names = {}
    exec(cell, names)
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><title>page</title>{names['widget'].html()}")
    page.goto(path.as_uri())
    page.get_by_text("number 3").wait_for()
    assert not page.get_by_role("img").is_visible()
    page.get_by_role("slider").press("ArrowLeft")
    page.get_by_text("number 2").wait_for()


def test_a_notebook_that_is_only_opened(jupyter, page, cell, tmp_path, screenshot):
    import nbformat

    names = {}
    exec(cell, names)
    notebook = jupyter.notebook("opened", "widget")
    made = nbformat.read(notebook, as_version=4)
    data = {"text/html": names["widget"].html(), "text/plain": "The number 3"}
    output = nbformat.v4.new_output("execute_result", data=data, execution_count=1)
    made.cells[0].outputs = [output]
    nbformat.write(made, notebook)
    jupyter.open(page, notebook)
    page.get_by_alt_text("The number 3").wait_for()
    page.get_by_text("Run or trust this cell").wait_for()
    assert page.get_by_role("slider").count() == 0
    screenshot(page, "untrusted")


def test_arrays_arrive(page, tmp_path):
    import numpy as np

    from msg3d_lab.widgets.browser import module, pack

    array = np.arange(6, dtype=float).reshape(2, 3) / 4
    (tmp_path / "packed.js").write_text('import { unpack } from "./common.js";\n')
    code = module(tmp_path / "packed.js")
    script = f"{code}\nwindow.unpack = unpack;"
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><title>page</title><script type=module>{script}</script>")
    page.goto(path.as_uri())
    page.wait_for_function("() => window.unpack")
    arrived = page.evaluate(
        "async (packed) => { const a = await unpack(packed); return [a.shape, [...a.values]]; }",
        pack(array),
    )
    assert arrived == [[2, 3], array.ravel().tolist()]
    assert pack(array > 1)["type"] == "uint8"
    assert pack(np.arange(3))["type"] == "int32"


def test_make_lab_keeps_comms_off_subshells(jupyter):
    """Else buttons reach a subshell that is gone after a reload of the page (jupyterlab 19719)."""
    name = "@jupyterlab/apputils-extension:kernels-settings"
    schema = jupyter.ask(f"lab/api/settings/{name}")["schema"]
    assert schema["properties"]["commsOverSubshells"]["default"] == "disabled"
