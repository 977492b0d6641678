"""The guides: commands, code and examples in them work; files that others parse are valid."""

import ast
import importlib
import inspect
import re
import runpy
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import msg3d_lab as lab

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(ROOT).with_suffix(""))
)


def blocks(page, *languages):
    """The fenced blocks of a page in one of the languages, and the indented ones for "sh"."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return found + (re.findall(r"^    (\S.*)$", text, re.MULTILINE) if "sh" in languages else [])


def resolve(node, names):
    """Look up a dotted name that starts with one of `names`; None for any other expression."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = resolve(node.value, names)
        return None if owner is None else getattr(owner, node.attr)
    return None


@every_page
def test_python_in_guides_uses_names_that_exist(page):
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        names = {}
        for node in tree.body:
            if isinstance(node, ast.ImportFrom | ast.Import):
                exec(ast.unparse(node), names)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                resolve(node, names)
            if isinstance(node, ast.Call) and callable(function := resolve(node.func, names)):
                known = inspect.signature(function).parameters
                assert {keyword.arg for keyword in node.keywords} <= set(known), ast.unparse(node)


@every_page
def test_commands_in_guides_exist(page):
    from msg3d_lab.cli import COMMANDS, DATA_COMMANDS

    known = set(COMMANDS) | {f"data {name}" for name in DATA_COMMANDS}
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"msg3d-lab ((?:data )?[a-z]+)", text) + re.findall(
        r"-m -- msg3d_lab ([a-z]+)", text
    )
    assert not {command for command in found if command != "data"} - known


def test_reference_covers_every_part():
    pages = sorted((ROOT / "docs/reference").glob("*.md"))
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    modules = re.findall(r"automodule:: (\S+)", text)
    for name in modules:
        importlib.import_module(name)
    parts = {name.split(".")[1] for name in modules}
    assert parts == {name for name in lab.__all__ if isinstance(getattr(lab, name), ModuleType)}


# run_onnx.py needs an exported network: tests/model/test_export.py runs it.
EXAMPLES = [p for p in sorted((ROOT / "docs/examples").rglob("*.py")) if p.stem != "run_onnx"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_is_short(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(example), run_name="__main__")
    assert len(example.read_text().splitlines()) <= 60


def test_workflows_are_valid():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert {"lint", "test", "docs", "wheel"} <= set(workflow["jobs"])
    makefile = (ROOT / "Makefile").read_text()
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        for step in job["steps"]:
            for target in re.findall(r"^make (\w+)", step.get("run", ""), re.MULTILINE):
                assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "secrets." not in (ROOT / ".github/workflows/ci.yml").read_text()
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(path.read_text())


def test_workflows_run_on_the_pythons_of_pyproject():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert pythons == classifiers


def test_citation_names_the_software_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == lab.__version__
    assert citation["cff-version"] == "1.2.0"
    (paper,) = citation["references"]
    assert paper["title"].startswith("Disentangling and Unifying")
    assert len(paper["authors"]) == 5
