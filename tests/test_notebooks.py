"""Every notebook runs from top to bottom, and is committed with clean outputs."""

import ast
import re
import shutil
import zipfile
from pathlib import Path

import launchers
import matplotlib
import numpy as np
import pytest
import torch
from jupyter_client import AsyncKernelManager

import msg3d_lab as lab
from msg3d_lab.training import recipes

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ONE_BRANCH = ["window_sizes=[3]", "window_dilations=[1]", "tcn_dilations=[1]"]
SMALL = ["epochs=1", "base_channels=6", "clip_len=8", *ONE_BRANCH]
SMALL += ["num_gcn_scales=2", "num_g3d_scales=2"]
TINY = [*SMALL, "pathways=[factorized]"]
# Values that make a notebook quick. `{tmp}` is a folder of the test's own, `{store}` the synthetic
# clips of four people, `{run}` and `{second}` are runs on them.
QUICK = {
    "00_start_here": {"RUN": "{run}"},
    "01_disentangled_adjacency": {"LAYOUT": "coco17", "EDGE_SET": None, "NUM_SCALES": 8},
    "02_data": {"SAMPLE": "S001C001P001R001A015", "PROTOCOL": "xview", "CLIP_LEN": 16},
    "03_train": {
        "DATA": "{store}",
        "SETTINGS": [*TINY, "epochs=3", "batch_size=4"],
        "RUNS": "{tmp}/runs",
        "SEEDS": [1, 2],
        "ESTIMATE_SECONDS": 0.5,
        "KILL_AFTER": 0,
    },
    "04_model_tour": {"BASE_CHANNELS": 12, "CLIP_LEN": 16, "SECONDS": 0.01},
    "05_evaluate_and_fuse": {
        "RUN": "{run}",
        "SECOND": "{tmp}/bone",
        "STORE": "{store}",
        "SETTINGS": TINY,
        "MANY_CLIPS": 2,
    },
    "06_ablations": {
        "RUNS": "{tmp}/ablations",
        "DATA": "{store}",
        "SEEDS": [1, 2],
        "JOBS": 1,
        "VARIANTS": ["disentangled-k4"],
        "SETTINGS": SMALL[:-2],
        "RECORDED": None,
        "PAIR": ["disentangled-k4", "powers-k4"],
    },
    "07_joint_importance_appendix": {
        "RUN": "{run}",
        "SECOND": "{second}",
        "DATA": "{store}",
        "NUM_CLIPS": 16,
        "STEPS": 2,
    },
    "07_joint_importance": {
        "RUN": "{run}",
        "SECOND": "{second}",
        "DATA": "{store}",
        "NUM_RANKED": 2,
        "NUM_CLIPS": 16,
        "SAMPLES": 1,
        "STEPS": 2,
    },
    # Runs of the embedded set in the place of real ones.
    "08_real_data": {
        "RUNS": "{run}/..",
        "RECIPE": "{run}/recipe.yaml",
        "DATA": "{store}",
        "NUM_CLIPS": 16,
    },
}
MEGABYTE = 1_000_000

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read_notebook(path):
    import nbformat  # not at the top, because every test process would wait for it

    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [c for c in read_notebook(path).cells if c.cell_type == "code"]


def test_notebooks_are_found():
    assert NOTEBOOKS


class Running(AsyncKernelManager):
    """The manager of a kernel that is started by somebody else."""

    has_kernel = True


@pytest.fixture
def run_notebook(tmp_path, tmp_path_factory, synthetic_store):
    """Run a notebook with other parameters and return its outputs."""
    import papermill

    generated = FOLDER.parent / "data" / synthetic_store.path.name
    if not generated.is_file():  # else the first notebook that needs it would make it again
        shutil.copyfile(synthetic_store.path, generated)
    environment = {
        # What notebooks cache goes away with the tests; matplotlib keeps the fonts it found.
        "MPLCONFIGDIR": matplotlib.get_configdir(),
        "XDG_CACHE_HOME": str(tmp_path_factory.getbasetemp() / "cache"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # as in every notebook
    }

    def run(path, values):
        copy, connection = tmp_path / path.name, tmp_path / "kernel.json"
        manager = Running(owns_kernel=False, connection_file=str(connection))
        manager.write_connection_file()
        client = manager.client()
        manager.client = lambda: client
        kernel = launchers.start(
            "ipykernel_launcher", "-f", connection, environment=environment, folder=FOLDER
        )
        try:
            papermill.execute_notebook(
                path, copy, parameters=values, km=manager, progress_bar=False, execution_timeout=600
            )
        finally:
            client.stop_channels()
            launchers.finish([kernel], seconds=0)
        outputs = [out for cell in code_cells(copy) for out in cell.outputs]
        assert outputs
        assert not [out.text for out in outputs if "Warning" in out.get("text", "")]
        return outputs

    return run


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One camera's synthetic clips of four people, two for testing, and two similar networks."""
    from msg3d_lab.data.synthetic.dataset import CLASSES, generate

    folder = tmp_path_factory.mktemp("small")
    store = lab.open_store(
        lab.data.write_store(
            folder / "store.arrow",
            (clip for clip in generate(subjects=(1, 2, 3, 6)) if clip.camera == 1),
            dataset="synthetic",
            skeleton=lab.skeletons.get("ntu25"),
            label_names=[action.name for action in CLASSES],
            channels=3,
            preparation={"name": "prepare_3d"},
            synthetic=True,
        )
    )
    recipe = recipes.with_settings(recipes.get("synthetic-joint"), [*SMALL, "epochs=2"])
    run = lab.fit(recipe, data=store, run=folder / "run", device="cpu", progress=False)
    values = lab.evaluate(run, data=store, device="cpu", progress=False).scores.values
    net = run.model()
    net.fc.bias.data -= torch.from_numpy(np.log(values)).mean(0)  # else one class is always first
    lab.save_model(net, run.checkpoint, overwrite=True)
    lab.evaluate(run, data=store, device="cpu", progress=False)
    second = lab.open_run(shutil.copytree(run.path, folder / "second"))
    net.fc.weight.data += 0.002 * torch.randn_like(net.fc.weight)
    recipes.save(recipes.with_settings(recipe, ["seed=2"]), second.path / "recipe.yaml")
    lab.save_model(net, second.checkpoint, overwrite=True)
    lab.evaluate(second.path, data=store, device="cpu", progress=False)
    return {"store": store.path, "run": folder / "run", "second": folder / "second"}


@pytest.mark.slow
# The notebook stack warns about its own future; the notebooks' warnings are in their outputs.
@pytest.mark.filterwarnings("ignore")
@every_notebook
def test_notebook_runs(path, tmp_path, run_notebook, small):
    values = {
        name: value.format(tmp=tmp_path, **small) if isinstance(value, str) else value
        for name, value in QUICK.get(path.stem, {}).items()
    }
    run_notebook(path, values)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.filterwarnings("ignore")
def test_notebook_02_shows_ntu60(shared_dir, tmp_path, run_notebook):
    source = shared_dir / "data/ntu-raw/nturgbd_skeletons_sample.zip"
    store = lab.import_dataset(source, dataset="ntu60", out=tmp_path / "ntu60.arrow")
    name = "S017C003P020R002A059"
    with zipfile.ZipFile(source) as archive:
        raw = archive.extract(f"nturgb+d_skeletons/{name}.skeleton", tmp_path)
    values = {"STORE": str(store), "SAMPLE": name, "RAW": str(raw), "CLIP_LEN": 100}
    outputs = run_notebook(FOLDER / "02_data.ipynb", values)
    texts = [out.get("text", "") + str(out.get("data", "")) for out in outputs]
    assert any("largest difference: 0e+00 m" in text for text in texts)
    assert not any("synthetic" in text for text in texts)


def test_notebook_02_refuses_a_2d_store(tmp_path):
    store = lab.data.write_store(
        tmp_path / "flat.arrow",
        [lab.data.Clip("a", np.ones((1, 5, 17, 3), np.float32), 0)],
        dataset="ntu60",
        skeleton=lab.skeletons.get("coco17"),
        label_names=["wave"],
        channels=3,
        preparation={"name": "none", "scored": True},
    )
    imports, _, opened = [cell.source for cell in code_cells(FOLDER / "02_data.ipynb")][:3]
    with pytest.raises(ValueError, match=r"expected a 3D store .* found coco17"):
        exec("\n".join([imports, opened]), {"STORE": store, "SAMPLE": "a"})


@every_notebook
def test_notebook_is_committed_clean(path):
    notebook = read_notebook(path)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    refresh = f"run: python notebooks/execute.py {path.relative_to(FOLDER.parent)}"
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), refresh
    outputs = [out for cell in cells for out in cell.outputs]
    assert outputs, refresh
    assert not [out for out in outputs if out.output_type == "error"]
    assert not [out for out in outputs if out.get("name") == "stderr"], refresh
    assert not [out for out in outputs if any("widget" in kind for kind in out.get("data", {}))]
    assert "widgets" not in notebook.metadata, refresh
    assert path.stat().st_size < MEGABYTE
    kinds = {kind for out in outputs for kind in out.get("data", {})}
    assert not kinds & {"image/png", "image/svg+xml"}, refresh  # without an alternative text
    pages = "".join(out.get("data", {}).get("text/html", "") for out in outputs)
    images = re.findall(r"<img [^>]*>", pages)
    assert [image for image in images if re.search(r'alt="[^"]{15,}"', image)] == images
    texts = [
        out.get("text", "") + str(out.get("data", {}).get("text/plain", "")) for out in outputs
    ]
    home = re.compile(r"(/home/|/Users/|/root/|[A-Z]:\\)" + f"|{re.escape(str(FOLDER.parent))}")
    assert not [text for text in texts + [c.source for c in notebook.cells] if home.search(text)]


@every_notebook
def test_notebook_keeps_the_house_rules(path):
    notebook = read_notebook(path)
    assert re.match(r"\d\d_", path.name)
    assert notebook.cells[0].cell_type == "markdown"
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1, "one cell of parameters, tagged `parameters`"
    for cell in cells:
        assert not re.search(r"^\s*[!%].*pip\b", cell.source, re.M), "no pip install"
        wide = [line for line in cell.source.splitlines() if len(line) > 100]
        assert not wide, "lines that fit 1000 pixels"
        tree = ast.parse(cell.source)
        for node in ast.walk(tree):
            assert not isinstance(node, ast.ClassDef), "no class"
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 5, "no function over five lines"
