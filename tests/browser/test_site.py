"""The site's pages of notebooks: widgets move without a kernel, and buttons lead to one."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from msg3d_lab.widgets import AdjacencyExplorer, WindowExplorer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(find_spec("myst_nb") is None, reason="needs the extra `docs`")


@pytest.fixture
def site(tmp_path):
    """A page of the site, made of a notebook with the outputs that a committed one has."""
    import nbformat

    notebook = nbformat.v4.new_notebook(metadata={"language_info": {"name": "python"}})
    notebook.cells.append(nbformat.v4.new_markdown_cell("# Explorers"))
    for widget in (AdjacencyExplorer("coco17", k=2), WindowExplorer("coco17", k=1)):
        data = {"text/html": widget.html(), "text/plain": widget.describe()}
        cell = nbformat.v4.new_code_cell("explorer", execution_count=1)
        cell.outputs = [nbformat.v4.new_output("execute_result", data=data, execution_count=1)]
        notebook.cells.append(cell)
    (tmp_path / "source").mkdir()
    nbformat.write(notebook, tmp_path / "source/page.ipynb")
    settings = {"root_doc": "page", "include_patterns": "page.ipynb", "extensions": "myst_nb"}
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-c", ROOT / "docs"]
    for name, value in settings.items():
        command += ["-D", f"{name}={value}"]
    command += [tmp_path / "source", tmp_path / "html"]
    address = {"GITHUB_REPOSITORY": "someone/lab"}  # as GitHub Actions says it
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | address
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "html/page.html"


def test_explorers_move_on_the_site(page, site, screenshot):
    page.goto(site.as_uri())
    adjacency, window = page.locator(".reading").all()
    before = page.locator("canvas").evaluate_all("(all) => all.map((c) => c.toDataURL())")
    assert page.get_by_text("Run or trust this cell").count() == 2
    assert not page.get_by_text("Run or trust this cell").first.is_visible()
    page.get_by_label("scale k").press("ArrowRight")
    page.get_by_label("window τ").press("ArrowRight")
    adjacency.get_by_text("k = 3:").wait_for()
    window.get_by_text("t+2").wait_for()
    after = page.locator("canvas").evaluate_all("(all) => all.map((c) => c.toDataURL())")
    assert all(old != new for old, new in zip(before, after, strict=True))
    screenshot(page, "light")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.locator(".msg3d-live.dark").first.wait_for()
    screenshot(page, "dark")
    page.get_by_role("button", name="Launch interactive content").click()
    links = page.locator(".dropdown-launch-buttons a").all()
    assert [link.get_attribute("href") for link in links] == [
        "https://mybinder.org/v2/gh/someone/lab/main?urlpath=lab/tree/page.ipynb",
        "https://colab.research.google.com/github/someone/lab/blob/main/page.ipynb",
    ]
