import pytest

from msg3d_lab.training import fit


@pytest.fixture(scope="session")
def run(toy_store, toy_recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("explaining") / "toy"
    return fit(toy_recipe, data=toy_store, run=path, device="cpu", progress=False)
