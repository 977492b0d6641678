import pytest

from msg3d_lab.model.kernels import matmul


@pytest.fixture(params=[1, matmul.VALUES_AT_ONCE], ids=["one body at once", "all bodies at once"])
def at_once(request, monkeypatch):
    monkeypatch.setattr(matmul, "VALUES_AT_ONCE", request.param)
