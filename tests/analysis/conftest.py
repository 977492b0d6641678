import pytest
import torch

from msg3d_lab import MSG3D


@pytest.fixture(scope="session")
def make_network(toy_skeleton):
    """Make small float64 networks on five joints, every tensor away from its start."""

    def make(seed=0, **arguments):
        g = torch.Generator().manual_seed(seed)
        small = {"num_classes": 4, "base_channels": 8, "num_gcn_scales": 3, "num_g3d_scales": 2}
        own = {"skeleton": toy_skeleton, "tcn_dilations": (1, 2), **small, **arguments}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = MSG3D(**own).double()
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=g)
            elif not name.endswith("num_batches_tracked"):
                noise = torch.randn(tensor.shape, generator=g, dtype=tensor.dtype)
                tensor.add_(noise, alpha=0.1)
        return model.eval()

    return make


@pytest.fixture
def network(make_network):
    return make_network()


@pytest.fixture
def batch():
    """Three clips of two persons, the last one alone: (3, 2, 9, 5, 3)."""
    x = torch.randn(3, 2, 9, 5, 3, dtype=torch.float64)
    x[2, 1] = 0
    return x
