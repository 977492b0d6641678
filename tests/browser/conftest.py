"""A real JupyterLab and a real browser, for the tests of what a notebook shows."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError

ROOT = Path(__file__).parents[2]
# What JupyterLab itself says, whatever a notebook holds.
NOT_OURS = (
    "favicon",
    "Refused to execute inline",
    "jupyterlab-manager",
    "api/me",
    "service worker",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture
def page(chromium):
    """A page of 1200 pixels in a fresh profile; an error in its console fails the test."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.errors = errors
    yield page
    context.close()
    assert not [text for text in errors if not any(known in text for known in NOT_OURS)]


class Lab:
    """A JupyterLab over a folder of its own, on a free port of this machine, with a token."""

    def __init__(self, folder):
        self.folder = folder
        self.kernel = None
        self.token = secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        own = {
            name: str(folder / ".jupyter" / name)
            for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "HOME")
        }
        search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={self.port}"]
        command += [f"--IdentityProvider.token={self.token}", "--ServerApp.ip=127.0.0.1"]
        command += [f"--ServerApp.root_dir={folder}", "--allow-root", "--ServerApp.port_retries=0"]
        self.log = (folder / "lab.log").open("w")
        self.process = subprocess.Popen(
            command,
            env={
                **os.environ,
                **own,
                "JUPYTER_CONFIG_PATH": str(ROOT / ".jupyter"),  # as `make lab` does
                "PYTHONPATH": search,
                "OMP_NUM_THREADS": "1",
            },
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self._wait()

    def _wait(self):
        end = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api?token={self.token}")
                return
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None or time.monotonic() > end:
                    pytest.fail(
                        f"JupyterLab did not start: {(self.folder / 'lab.log').read_text()}"
                    )
                time.sleep(0.3)

    def notebook(self, name, *cells):
        """Write a notebook with these code cells; widgets of an earlier one are closed by it."""
        import nbformat

        first = "import ipywidgets; ipywidgets.Widget.close_all()\n" + cells[0]
        cells = [first, *cells[1:]]
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        made.metadata["kernelspec"] = {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        }
        path = self.folder / f"{name}.ipynb"
        nbformat.write(made, path)
        # All notebooks have one kernel: a new one would import torch again.
        self.kernel = self.kernel or self.ask("api/kernels", {"name": "python3"})["id"]
        session = {"path": path.name, "name": path.name, "type": "notebook"}
        self.ask("api/sessions", {**session, "kernel": {"id": self.kernel}})
        return path

    def ask(self, what, content=None):
        """The server's answer, as JSON; something is posted if there is content."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{what}?token={self.token}",
            content and json.dumps(content).encode(),
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def open(self, page, path):
        """Open a notebook in a tab of its own, without running it."""
        name = Path(path).relative_to(self.folder)
        page.goto(f"http://127.0.0.1:{self.port}/doc/tree/{name}?token={self.token}")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.get_by_text("| Idle").wait_for()

    def run_all(self, page):
        """Run every cell and wait until the kernel has done so."""
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        done = """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
            .every((prompt) => /\\[\\d+\\]/.test(prompt.textContent))"""
        try:
            page.wait_for_function(done, timeout=60_000)
        except TimeoutError:
            page.screenshot(path=self.folder / "unfinished.png", full_page=True)
            pytest.fail(f"cells did not finish: {self.folder / 'unfinished.png'}")

    def save(self, page):
        """Save the open notebook, and wait until the server has done so."""

        def saved(answer):
            return answer.request.method == "PUT" and "/api/contents/" in answer.url

        with page.expect_response(saved):
            page.get_by_role("button", name="Save", exact=False).first.click()

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory):
    """A JupyterLab for all tests of a session."""
    server = Lab(tmp_path_factory.mktemp("lab"))
    yield server
    server.close()


@pytest.fixture
def screenshot(request):
    """Keep a picture of a page where `SCREENSHOTS` says, to be looked at."""

    def keep(page, name):
        folder = os.environ.get("SCREENSHOTS")
        if folder:
            target = Path(folder) / f"{request.node.name}-{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=target, full_page=True)

    return keep
