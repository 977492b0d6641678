"""The house rules a machine can hold: import directions, import time, equal dependency lists."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import msg3d_lab as lab

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "msg3d_lab"
# What each part may import of the others. The top parts may import anything below them.
ALLOWED = {
    "files": set(),
    "allocator": set(),
    "safe_pickle": set(),
    "yaml_library": set(),
    "checksums": set(),
    "download": {"checksums", "files"},
    "published": set(),
    "skeletons": {"yaml_library"},
    "graph": {"skeletons"},
    "model": {"skeletons", "graph", "files", "safe_pickle", "download", "published"},
    "data": {"skeletons", "files", "safe_pickle", "checksums", "download"},
    "training": {
        "skeletons",
        "graph",
        "files",
        "checksums",
        "allocator",
        "yaml_library",
        "model",
        "data",
    },
    "evaluation": {"files", "safe_pickle", "checksums", "model", "data", "training"},
    "inference": {"skeletons", "safe_pickle", "model", "data", "training"},
    "experiments": {
        "allocator",
        "files",
        "yaml_library",
        "model",
        "data",
        "training",
        "evaluation",
    },
    "analysis": {"skeletons", "graph", "model", "evaluation"},
    "explain": {"skeletons", "files", "model", "data", "training", "analysis", "viz"},
    "viz": {"skeletons", "graph"},
    "widgets": {
        "skeletons",
        "graph",
        "files",
        "model",
        "data",
        "training",
        "evaluation",
        "experiments",
        "analysis",
        "explain",
        "viz",
    },
}
TOP = {"reporting", "demo", "cli", "__main__", "__init__"}


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "msg3d_lab" and len(parts) > 1:
                yield parts[1]


def test_imports_point_one_way():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = part(path)
        if own in TOP:
            continue
        assert own in ALLOWED, f"{own} is in no row of the table of imports"
        bad = set(imported(path)) - ALLOWED[own] - {own, "__version__"}
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(bad)]
    assert not wrong


def run_python(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()


def test_import_loads_nothing_else():
    assert not {"torch", "numpy"} & set(run_python("import sys, msg3d_lab; print(*sys.modules)"))


def test_model_leaves_slow_libraries_for_later():
    """The network, its checkpoints and the layouts load little beyond torch."""
    code = (
        "import sys, msg3d_lab as lab; "
        "lab.MSG3D, lab.load_model, lab.Skeleton, lab.graph, lab.tune_allocator; "
        "print(*sys.modules)"
    )
    slow = {
        "networkx",
        "pandas",
        "pyarrow",
        "matplotlib",
        "pydantic",
        "lightning_fabric",
        "scipy",
    }
    assert not slow & set(run_python(code))


def test_public_names_are_there():
    assert dir(lab) == sorted([*lab.__all__, "__version__"])
    for name in dir(lab):
        assert getattr(lab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'modle'"):
        _ = lab.modle


def test_type_checkers_see_the_same_public_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert sorted(seen) == sorted(lab.__all__)
    for name, module in seen.items():
        assert getattr(importlib.import_module(module), name) is getattr(lab, name)


def test_environment_yml_has_the_dependencies_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python, pip, nested = conda
    assert python == f"python{project['requires-python']}"
    assert pip == "pip"
    packages = [line for line in nested["pip"] if not line.startswith("-")]
    assert packages == project["dependencies"]
    assert "-e ." in nested["pip"]


def test_constraints_pin_every_dependency():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {
        canonicalize_name(r.name): next(iter(r.specifier)).version
        for r in map(Requirement, (line for line in lines if not line.startswith("#")))
    }
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["docs"]]
    for requirement in map(Requirement, wanted):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_readme_has_no_gaps():
    assert not re.findall(r"@[A-Z]+@", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_package_never_mentions_a_machine():
    """Paths of one machine help nobody else."""
    for path in [*PACKAGE.rglob("*.py"), *ROOT.glob("*.md"), *ROOT.glob("notebooks/*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        for word in ("/home/", "/root/", "/tmp/", "../shared"):
            assert word not in text, f"{path.name} mentions {word}"
