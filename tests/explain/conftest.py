import pytest

from msg3d_lab import skeletons


@pytest.fixture(scope="session")
def toy_skeleton_with_parts(toy_skeleton):
    """The toy with two parts, and its head in none of them."""
    record = toy_skeleton.to_dict() | {"parts": {"arms": [3, 4], "trunk": [0, 1]}}
    return skeletons.Skeleton.from_record(record)


@pytest.fixture(scope="session")
def run(toy_run):
    return toy_run
