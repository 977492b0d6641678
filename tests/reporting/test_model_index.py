import pytest
import yaml
from made_runs import made_run, made_scores

from msg3d_lab.evaluation import accuracies
from msg3d_lab.model.cost import network_cost
from msg3d_lab.reporting.measured import find_runs
from msg3d_lab.reporting.model_index import write_metafile
from msg3d_lab.training import open_run, recipes


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made_run(folder / "a", settings=["clip_len=16"])
    made_run(folder / "b", settings=["clip_len=16", "seed=2"])
    made_run(folder / "c", "synthetic-joint", settings=["clip_len=16"])
    return find_runs(folder)


@pytest.fixture(scope="module")
def content(runs):
    path = write_metafile(runs, runs[0].path.parent / "metafile.yml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_metafile_holds_what_was_measured(runs, content):
    assert [c["Name"] for c in content["Collections"]] == ["MSG3D"]
    assert [m["Name"] for m in content["Models"]] == [
        "ntu60-xsub-3d-joint-seed1",
        "ntu60-xsub-3d-joint-seed2",
        "synthetic-joint",
    ]
    model = content["Models"][0]
    (result,) = model["Results"]
    shares = accuracies(made_scores())
    assert result["Metrics"] == {
        "Top 1 Accuracy": round(100 * shares["top1"], 2),
        "Top 5 Accuracy": round(100 * shares["top5"], 2),
        "Mean Class Accuracy": round(100 * shares["mean_class"], 2),
    }
    assert result["Dataset"] == "NTU60-XSub-3D"
    assert result["Task"] == "Skeleton-based Action Recognition"
    facts = model["Metadata"]
    assert (facts["Batch Size"], facts["Epochs"]) == (16, 80)
    assert facts["Training Resources"] == "8 x cuda, a processor, 4 threads"
    macs = network_cost(runs[0].model(), clip_len=16).macs
    assert float(facts["FLOPs"].removesuffix("G")) == pytest.approx(macs / 1e9, rel=5e-3)


def test_metafile_names_files_that_are_there(runs, content):
    folder = runs[0].path.parent
    for model, run in zip(content["Models"], runs, strict=True):
        assert recipes.load(folder / model["Config"]) == run.recipe
        assert open_run((folder / model["Weights"]).parent).checkpoint.is_file()
        assert (folder / model["Training Log"]).is_file()


def test_metafile_calls_synthetic_data_so(content):
    assert content["Models"][2]["Results"][0]["Dataset"] == "synthetic-XSub-3D"


def test_metafile_of_nothing_is_refused_and_nothing_is_overwritten(runs, tmp_path):
    with pytest.raises(ValueError, match="no tested runs"):
        write_metafile([], tmp_path / "metafile.yml")
    (tmp_path / "metafile.yml").write_text("mine")
    with pytest.raises(FileExistsError):
        write_metafile(runs, tmp_path / "metafile.yml")
    assert (tmp_path / "metafile.yml").read_text() == "mine"
