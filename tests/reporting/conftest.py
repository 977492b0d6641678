import shutil

import pytest

from msg3d_lab.evaluation import evaluate
from msg3d_lab.training import open_run


@pytest.fixture(scope="module")
def run(toy_run, tmp_path_factory):
    """A tested run of this module's own."""
    run = open_run(shutil.copytree(toy_run.path, tmp_path_factory.mktemp("report") / "toy"))
    evaluate(run, device="cpu", progress=False)
    return run
