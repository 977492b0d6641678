import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

# Several test processes share the cores; results must not depend on how many there are.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")


# The files that take longest start first.
LONGEST = (
    "test_notebooks.py",
    "browser/test_panels.py",
    "test_demo.py",
    "experiments/test_ablations.py",
    "training/test_checkpointing.py",
    "training/distributed/test_slurm.py",
    "training/distributed/test_real_slurm.py",
    "training/test_loop.py",
    "model/test_export.py",
    "model/test_fused.py",
    "training/distributed/test_sync_norm.py",
    "training/diagnostics/test_memory.py",
    "explain/test_over_clips.py",
    "cli/test_main.py",
    "model/test_cost.py",
)


def pytest_xdist_auto_num_workers(config):
    """One more than cores: many tests wait for processes, browsers or a cluster."""
    return os.cpu_count() + 1


class _Scheduling(LoadFileScheduling):
    """A worker runs whole files; those of the browser are one, for their JupyterLab and kernel."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return "browser" if "/browser/" in file else file


def pytest_xdist_make_scheduler(config, log):
    return _Scheduling(config, log)


def pytest_configure(config):
    # By default pytest-xdist starts the files with the most tests first.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(LONGEST)))


@pytest.fixture(autouse=True)
def _seeded_and_tidy():
    import matplotlib.pyplot as plt
    import torch

    torch.manual_seed(0)
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def chromium():
    """A Chromium without a window; one a file, because its event loop is in the way of others."""
    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs a chromium or google-chrome on the PATH (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shared_dir():
    """The developers' reference data and goldens, beside the checkout."""
    path = Path(__file__).parents[1].parent / "shared"
    if not (path / "golden").is_dir():
        pytest.skip("needs the developers' reference data, which are not part of the project")
    return path


@pytest.fixture(scope="session")
def nw_ucla_store(shared_dir, tmp_path_factory):
    """NW-UCLA, imported from the file that everybody has."""
    from msg3d_lab.data import import_dataset, open_store

    source = shared_dir / "data" / "nw-ucla" / "all_sqe.zip"
    out = tmp_path_factory.mktemp("nw-ucla") / "nw-ucla.arrow"
    return open_store(import_dataset(source, dataset="nw-ucla", out=out, progress=False))


@pytest.fixture(scope="session")
def synthetic_store(tmp_path_factory):
    """The embedded data set, generated once for all test processes."""
    from filelock import FileLock

    from msg3d_lab.data import load_synthetic

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with FileLock(folder / "synthetic.lock"):
        return load_synthetic(folder / "synthetic")


@pytest.fixture(scope="session")
def toy_skeleton():
    """Five joints: a spine of three and two arms."""
    from msg3d_lab import skeletons

    return skeletons.from_dict(
        {
            "name": "toy5",
            "joints": ["hip", "chest", "head", "left hand", "right hand"],
            "edges": [
                ["hip", "chest"],
                ["chest", "head"],
                ["chest", "left hand"],
                ["chest", "right hand"],
            ],
            "center": "chest",
            "mirror": [["left hand", "right hand"]],
        }
    )


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory, toy_skeleton):
    """49 noise clips of three classes; the class is the height of one joint."""
    import numpy as np

    from msg3d_lab.data import Clip, open_store, write_store

    rng = np.random.default_rng(0)
    clips = []
    for i in range(49):
        keypoints = rng.normal(0, 0.3, (1 + i % 2, 12 + i % 7, 5, 3)).astype(np.float32)
        keypoints[0, :, 2 + i % 3, 1] += 2
        split = "xsub_train" if i < 36 else "xsub_val"
        clips.append(Clip(f"clip{i:02d}", keypoints, i % 3, (split,), subject=i % 4))
    path = tmp_path_factory.mktemp("store") / "toy.arrow"
    names = ["head up", "left up", "right up"]
    return open_store(
        write_store(
            path,
            clips,
            dataset="toy",
            skeleton=toy_skeleton,
            label_names=names,
            channels=3,
            preparation={"name": "none"},
            synthetic=True,
        )
    )


@pytest.fixture(scope="session")
def copies_store(toy_store, tmp_path_factory):
    """`toy_store`, but its first four test clips are training clips under another name."""
    from dataclasses import replace

    from msg3d_lab.data import open_store, write_store

    clips = [toy_store.clip(i) for i in range(len(toy_store))]
    clips[36:40] = [replace(clips[36 + i], keypoints=clips[i].keypoints) for i in range(4)]
    kept = ("dataset", "skeleton", "label_names", "channels", "preparation", "synthetic")
    facts = {name: getattr(toy_store, name) for name in kept}
    return open_store(write_store(tmp_path_factory.mktemp("copies") / "toy.arrow", clips, **facts))


@pytest.fixture(scope="session")
def toy_recipe():
    """Seconds of training on `toy_store`."""
    from msg3d_lab.training import recipes

    recipe = recipes.get("synthetic-joint")
    data = recipe.data.model_copy(update={"dataset": "toy", "layout": "toy5", "clip_len": 8})
    recipe = recipe.model_copy(update={"name": "toy-joint", "data": data})
    return recipes.with_settings(
        recipe,
        {
            "edge_set": None,
            "window_sizes": [3],
            "window_dilations": [1],
            "tcn_dilations": [1],
            "base_channels": 6,
            "num_gcn_scales": 3,
            "num_g3d_scales": 2,
            "epochs": 2,
            "batch_size": 8,
            "base_batch_size": 16,
            "optimizer": "sgd",
            "learning_rate": 0.05,
            "weight_decay": 0.0005,
            "clip_norm": 0,
            "validate_every": 2,
        },
    )


@pytest.fixture(scope="session")
def toy_run(toy_store, toy_recipe, tmp_path_factory):
    """`toy_recipe` trained on `toy_store`, not tested. Copy its folder to write into it."""
    from msg3d_lab.training import fit

    path = tmp_path_factory.mktemp("runs") / "toy"
    return fit(toy_recipe, data=toy_store, run=path, device="cpu", progress=False)


@pytest.fixture(scope="session")
def body():
    """The joint layout ntu25."""
    from msg3d_lab import skeletons

    return skeletons.get("ntu25")


@pytest.fixture(scope="session")
def make_walk(body):
    """Make clips of a flat body of ntu25 swinging its limbs: (M, T, 25, 3).

    It faces +y, as after `prepare_3d`.
    """
    import numpy as np

    from msg3d_lab.viz import body_layout

    def make(*, num_frames=60, persons=1):
        xy = body_layout(body)
        phase = 2 * np.pi * np.arange(num_frames) / 30
        clip = np.zeros((persons, num_frames, 25, 3), dtype=np.float32)
        for person in range(persons):
            clip[person, ..., 0] = -xy[:, 0] - 1.2 * person
            clip[person, ..., 2] = xy[:, 1]
            for part, top, sign in (
                ("left arm", "left shoulder", 1),
                ("right arm", "right shoulder", -1),
                ("left leg", "left hip", -1),
                ("right leg", "right hip", 1),
            ):
                joints = list(body.parts[part])
                reach = xy[body.joints.index(top), 1] - xy[joints, 1]
                angle = 0.5 * sign * np.sin(phase + person)[:, None]
                clip[person][:, joints, 1] += reach * np.sin(angle)
                clip[person][:, joints, 2] += reach * (1 - np.cos(angle))
        return clip

    return make


@pytest.fixture(scope="session")
def small_store(tmp_path_factory):
    """The clips of two synthetic subjects, one of them of the test split."""
    from msg3d_lab import skeletons
    from msg3d_lab.data import open_store, write_store
    from msg3d_lab.data.synthetic.dataset import CLASSES, generate

    path = tmp_path_factory.mktemp("inference") / "small.arrow"
    return open_store(
        write_store(
            path,
            generate(subjects=(1, 3)),
            dataset="synthetic",
            skeleton=skeletons.get("ntu25"),
            label_names=[known.name for known in CLASSES],
            channels=3,
            preparation={"name": "prepare_3d", "scored": False},
            synthetic=True,
        )
    )


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, small_store):
    """A run on them with random weights, of several test clips."""
    import torch

    from msg3d_lab import MSG3D, save_model
    from msg3d_lab.training import recipes
    from msg3d_lab.training.runs import create_run

    tiny = ["base_channels=6", "num_gcn_scales=3", "num_g3d_scales=2", "clip_len=16"]
    tiny += ["window_sizes=[3]", "window_dilations=[1]", "tcn_dilations=[1]"]
    recipe = recipes.with_settings(recipes.get("synthetic-joint"), [*tiny, "test_clips=3"])
    data = {
        "path": str(small_store.path),
        "fingerprint": small_store.fingerprint,
        "label_names": small_store.label_names,
        "preparation": small_store.preparation,
    }
    run = create_run(
        tmp_path_factory.mktemp("runs") / "small", recipe, {"data": data, "synthetic": True}
    )
    torch.manual_seed(0)
    net = MSG3D(num_classes=16, skeleton="ntu25", **recipe.model.model_dump())
    for parameter in net.parameters():  # so that the classes differ
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_model(net, run.checkpoint)
    return run
