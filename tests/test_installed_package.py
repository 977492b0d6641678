"""The wheel works away from a checkout: what the library reads is in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LISTS = """
import json, msg3d_lab as lab
from msg3d_lab.experiments import grids
from msg3d_lab.reporting import read_published
from msg3d_lab.training import recipes
print(json.dumps({
    "file": lab.__file__,
    "recipes": recipes.names(),
    "layouts": lab.skeletons.names(),
    "grids": grids.names(),
    "published": len(read_published()),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package as pip installs it from the wheel."""
    build, target = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(build)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = build.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target


def run_away(installed, folder, *command):
    """Run a command from an empty folder with the installed package; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_installed_package_has_its_data(installed, tmp_path):
    from msg3d_lab import skeletons
    from msg3d_lab.experiments import grids
    from msg3d_lab.reporting import read_published
    from msg3d_lab.training import recipes

    found = json.loads(run_away(installed, tmp_path, "-c", LISTS))
    assert Path(found["file"]).is_relative_to(installed)
    assert found["recipes"] == recipes.names()
    assert found["layouts"] == skeletons.names()
    assert found["grids"] == grids.names()
    assert found["published"] == len(read_published())
    assert (installed / "msg3d_lab/py.typed").is_file()


def test_every_file_of_the_package_is_installed(installed):
    tracked = subprocess.run(
        ["git", "ls-files", "msg3d_lab"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not [path for path in tracked if not (installed / path).is_file()]
