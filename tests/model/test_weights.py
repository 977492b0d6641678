import functools
import http.server

import pytest
import torch
from local_server import serving

from msg3d_lab import MSG3D, load_model, save_model
from msg3d_lab.model import convert
from msg3d_lab.model.weights import download_weights, find_weights, published_weights
from msg3d_lab.training import recipes

SMALL = {"num_classes": 60, "base_channels": 6, "num_gcn_scales": 3, "num_g3d_scales": 2}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server with a small checkpoint as mmaction2 writes them."""
    folder = tmp_path_factory.mktemp("site")
    save_model(
        MSG3D(edge_set="star", normalization="column", **SMALL).eval(), folder / "own.safetensors"
    )
    convert(folder / "own.safetensors", folder / "j.pth", to="mmaction2")
    (folder / "page.pth").write_text("<html>a page</html>")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with serving(functools.partial(Quiet, directory=folder)) as server:
        yield folder, f"http://127.0.0.1:{server.server_port}"


def test_all_34_published_checkpoints_have_a_recipe_of_ours():
    known = published_weights()
    assert len(known) == 34
    assert sum(name.startswith("pyskl/") for name in known) == 32
    for weights in known.values():
        data = recipes.get(weights.recipe).data
        assert f"{data.dataset}_{data.test_split.removesuffix('_val')}".replace("-", "_") in (
            weights.address
        ) or weights.name.startswith("mmaction2/")
        assert weights.address.endswith(".pth")
        assert 80 < weights.top1 < 99
    streams = {
        w.address.rpartition("/")[2]: recipes.get(w.recipe).data.stream for w in known.values()
    }
    assert streams["jm.pth"] == "joint_motion"
    assert streams["b.pth"] == "bone"


def test_the_seeds_two_have_a_hash_in_their_name():
    starts = {w.name: w.sha256_start for w in published_weights().values() if w.sha256_start}
    assert starts == {
        "mmaction2/ntu60-xsub-2d-joint": "73b97296",
        "mmaction2/ntu60-xsub-3d-joint": "c325d222",
    }


def test_unknown_names_get_near_ones():
    with pytest.raises(ValueError, match=r"did you mean .*pyskl/ntu60-xsub-3d-joint"):
        find_weights("pyskl/ntu60-xsub-3d-joints")


def test_a_download_is_loaded_by_name(site, tmp_path, monkeypatch):
    folder, base = site
    monkeypatch.chdir(tmp_path)
    path = download_weights("pyskl/ntu60-xsub-3d-joint", address=f"{base}/j.pth", progress=False)
    assert path.read_bytes() == (folder / "j.pth").read_bytes()
    assert (path.parent / f"{path.name}.sha256").is_file()
    model = load_model("pyskl/ntu60-xsub-3d-joint")  # nothing is fetched again
    x = torch.randn(2, 2, 12, 25, 3)
    with torch.no_grad():
        assert torch.equal(model(x), load_model(folder / "j.pth")(x))


def test_another_file_than_the_published_one_is_refused(site, tmp_path):
    _, base = site
    name, options = "mmaction2/ntu60-xsub-3d-joint", {"folder": tmp_path, "progress": False}
    with pytest.raises(ValueError, match=r"the one in its published name .expected c325d222"):
        download_weights(name, address=f"{base}/j.pth", **options)
    assert not (tmp_path / find_weights(name).file).exists()
    with pytest.raises(ValueError, match="something else than a checkpoint"):
        download_weights(name, address=f"{base}/page.pth", **options)
    (tmp_path / find_weights(name).file).write_bytes((site[0] / "j.pth").read_bytes())
    with pytest.raises(ValueError, match="that of the published file with c325d222"):
        download_weights(name, **options)
