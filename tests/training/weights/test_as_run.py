import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import launchers
import numpy as np
import pytest
import torch
from scipy.special import softmax

from msg3d_lab import MSG3D, Predictor, evaluate, save_model, skeletons
from msg3d_lab.cli import main
from msg3d_lab.data import Clip, open_store, write_store
from msg3d_lab.data.datasets import DATASETS
from msg3d_lab.data.synthetic.dataset import generate
from msg3d_lab.evaluation import read_scores
from msg3d_lab.model import convert
from msg3d_lab.model.prediction import predict
from msg3d_lab.model.weights import find_weights
from msg3d_lab.reporting import find_runs, measured_results, record_result
from msg3d_lab.training import recipes, run_of_weights
from msg3d_lab.training.setup import build_test_batches

SETTINGS = [
    "base_channels=6",
    "num_gcn_scales=3",
    "num_g3d_scales=2",
    "clip_len=12",
    "test_clips=2",
]
DATA = Path(__file__).parents[3] / "data"
OPENMMLAB = {"edge_set": "star", "normalization": "column"}


@pytest.fixture(scope="module")
def recipe():
    return recipes.with_settings(recipes.get("ntu60-xsub-3d-joint"), SETTINGS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, recipe):
    """A checkpoint in mmaction2's format."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    net = MSG3D(num_classes=60, skeleton="ntu25", **recipe.model.model_dump()).eval()
    save_model(net, folder / "own.safetensors")
    convert(folder / "own.safetensors", folder / "small.pth", to="mmaction2")
    return folder / "small.pth"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Generated clips that stand for NTU60's test split."""
    clips = [clip for clip in generate(subjects=(3, 1)) if "xsub_val" in clip.splits][:24]
    return open_store(
        write_store(
            tmp_path_factory.mktemp("store") / "ntu60-3d.arrow",
            [Clip(clip.id, clip.keypoints, clip.label, clip.splits) for clip in clips],
            dataset="ntu60",
            skeleton=skeletons.get("ntu25"),
            label_names=DATASETS["ntu60"].label_names,
            channels=3,
            preparation={"name": "prepare_3d", "scored": False},
        )
    )


def test_weights_are_tested_like_a_run(checkpoint, recipe, store, tmp_path):
    run = run_of_weights(checkpoint, recipe=recipe, run=tmp_path / "w")
    result = evaluate(run, data=store, device="cpu", progress=False)
    # By hand: the network of the file on the same clips, softmax scores averaged.
    from msg3d_lab.training.setup import build_test_batches

    net = run.model()
    (batch,) = build_test_batches(
        recipe, store, store.indices("xsub_val"), batch_size=24, num_clips=2
    )
    with torch.no_grad():
        clips = net(torch.from_numpy(batch.x).flatten(0, 1)).view(24, 2, 60).softmax(-1)
    np.testing.assert_allclose(result.scores.values, clips.mean(1), atol=1e-6)
    row = measured_results([run]).iloc[0]
    assert (row["recipe"], row["clips"], row["log"]) == (recipe.name, 2, "")
    assert "weights small.pth, sha256 " in row["devices"]
    assert record_result(run, tmp_path / "results.csv")["training_minutes"].isna().all()


def test_the_same_weights_are_the_same_run(checkpoint, recipe, tmp_path):
    make = lambda _: run_of_weights(checkpoint, recipe=recipe, run=tmp_path / "w")  # noqa: E731
    with ThreadPoolExecutor(4) as pool:  # as the processes of torchrun do
        runs = list(pool.map(make, range(4)))
    assert {run.path for run in runs} == {tmp_path / "w"}
    assert json.loads((tmp_path / "w/environment.json").read_text())["weights"]["name"] is None
    other = recipes.with_settings(recipe, ["clip_len=16"])
    with pytest.raises(FileExistsError, match="with other weights or another recipe"):
        run_of_weights(checkpoint, recipe=other, run=tmp_path / "w")


def test_weights_predict_a_recording_without_any_store(checkpoint, recipe, tmp_path):
    predictor = Predictor(run_of_weights(checkpoint, recipe=recipe, run=tmp_path / "w"))
    found = predictor(np.random.default_rng(0).normal(size=(1, 20, 25, 3)))
    assert found.name in DATASETS["ntu60"].label_names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["edge_set=chain"], "its edges are star, the recipe's chain"),
        (["num_persons=1"], "num_persons is 2, the recipe's 1"),
        (["base_channels=96"], "base_channels is 6, the recipe's 96"),
        (["normalization=symmetric"], "normalization is column, the recipe's symmetric"),
        (["dataset=ntu120", "layout=coco17"], r"its joints are those of ntu25 \(25\)"),
        (["dataset=ntu120"], "it knows 60 classes, ntu120 has 120"),
    ],
)
def test_weights_of_another_network_say_in_what_they_differ(
    checkpoint, recipe, settings, message, tmp_path
):
    other = recipes.with_settings(recipe, settings)
    with pytest.raises(ValueError, match=message):
        run_of_weights(checkpoint, recipe=other, run=tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_file_needs_a_recipe_and_a_published_name_has_one(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="needs the recipe it was trained with"):
        run_of_weights(checkpoint)
    # Published weights that were downloaded before; here a small file in their place.
    monkeypatch.chdir(tmp_path)
    name = "pyskl/ntu60-xsub-3d-joint"
    (tmp_path / "data/weights").mkdir(parents=True)
    (tmp_path / "data/weights" / find_weights(name).file).write_bytes(checkpoint.read_bytes())
    with pytest.raises(ValueError, match="base_channels is 6, the recipe's 96"):
        run_of_weights(name)


def test_the_command(checkpoint, recipe, store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipes.save(recipe, tmp_path / "small.yaml")
    words = ["test", "--weights", str(checkpoint), "--recipe", "small.yaml", "--device", "cpu"]
    main([*words, "--data", str(store.path)])
    assert "ntu60" in capsys.readouterr().out
    (folder,) = (tmp_path / "runs/weights").iterdir()
    assert (folder / "scores.parquet").is_file()
    assert "weights small.pth" in (folder / "report.html").read_text(encoding="utf-8")
    (folder / "report.html").unlink()
    chosen = words[1:5]
    main(["report", *chosen, "--data", str(store.path)])
    assert (folder / "report.html").is_file()
    main(["record", *chosen, "--table", "out/results.csv", "--keep"])
    assert (tmp_path / "out/results.csv").read_text().count("\n") == 2
    assert len(list((tmp_path / "out/runs").rglob("scores.parquet"))) == 1
    with pytest.raises(SystemExit):  # kept already: there is no row of it either
        main(["record", *chosen, "--table", "out/others.csv", "--keep"])
    assert not (tmp_path / "out/others.csv").exists()
    for words in (["test"], ["test", str(folder), "--weights", str(checkpoint)]):
        with pytest.raises(SystemExit):
            main(words)
        assert "expected a run's folder, or --weights" in capsys.readouterr().err


def test_two_processes_test_weights_like_one(checkpoint, recipe, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipes.save(recipe, tmp_path / "small.yaml")
    words = ["test", "--weights", checkpoint, "--recipe", "small.yaml", "--device", "cpu"]
    shown = launchers.run_group(2, "msg3d_lab", *words, "--data", store.path, folder=tmp_path)
    assert shown.count("Scores:") == 1
    (folder,) = (tmp_path / "runs/weights").iterdir()
    several = read_scores(folder / "scores.parquet")
    alone = run_of_weights(checkpoint, recipe=recipe, run=tmp_path / "alone")
    one = evaluate(alone, data=store, device="cpu", progress=False).scores
    assert several.ids == one.ids
    np.testing.assert_allclose(several.values, one.values, atol=1e-6)


def test_weights_of_two_zoos_for_one_recipe_are_two_results(checkpoint, recipe, store, tmp_path):
    other = tmp_path / "other.safetensors"
    torch.manual_seed(1)
    save_model(MSG3D(num_classes=60, skeleton="ntu25", **recipe.model.model_dump()).eval(), other)
    for path in (checkpoint, other):
        run = run_of_weights(path, recipe=recipe, run=tmp_path / "runs" / path.stem)
        evaluate(run, data=store, device="cpu", progress=False)
    assert len(find_runs(tmp_path / "runs")) == 2


@pytest.mark.parametrize(
    ("name", "prepared"),
    [
        ("ntu60-xsub-3d-joint", {"name": "prepare_3d", "scored": False}),
        (
            "ntu60-xsub-3d-joint-paper",
            {"name": "prepare_paper", "scored": False, "bodies": "energy"},
        ),
        ("ntu60-xsub-2d-joint", {"name": "prepare_2d", "scored": True}),
    ],
)
def test_weights_record_the_preparation_of_their_recipe(name, prepared, tmp_path):
    small = recipes.with_settings(recipes.get(name), [*SETTINGS, "test_clips=1"])
    net = MSG3D(num_classes=60, skeleton=small.data.layout, **small.model.model_dump())
    save_model(net, tmp_path / "own.safetensors")
    run = run_of_weights(tmp_path / "own.safetensors", recipe=small, run=tmp_path / "run")
    assert run.environment["data"]["preparation"] == prepared


def test_weights_of_ours_know_recipe_classes_and_preparation(toy_run, tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(toy_run.checkpoint.read_bytes())
    again = run_of_weights(file, run=tmp_path / "run")
    assert again.recipe == toy_run.recipe
    known = again.environment["data"]
    assert known["preparation"] == toy_run.environment["data"]["preparation"]
    assert known["label_names"] == toy_run.environment["data"]["label_names"]


@pytest.mark.parametrize(
    "name", ["nw-ucla-joint-compact", "nw-ucla-bone-compact", "nw-ucla-wide-joint"]
)
def test_weights_of_the_project_give_the_scores_of_their_runs(name, nw_ucla_store, tmp_path):
    weights = DATA / "weights" / f"{name}.safetensors"
    run = run_of_weights(weights, run=tmp_path / "run")
    indices = nw_ucla_store.indices(run.recipe.data.test_split)[::40]
    batches = build_test_batches(run.recipe, nw_ucla_store, indices, batch_size=12, num_clips=1)
    (logits,) = (found for found, _, _ in predict(run.model(), batches, device=torch.device("cpu")))
    assert run.recipe == recipes.get(name)
    assert run.environment["data"]["preparation"] == nw_ucla_store.preparation
    kept = read_scores(DATA / "runs" / name / "seed-1/scores.parquet")
    expected = kept.values[[kept.ids.index(nw_ucla_store.ids[i]) for i in indices]]
    np.testing.assert_allclose(softmax(logits[:, 0], -1), expected, atol=1e-5)


def test_weights_of_a_run_are_no_second_result(toy_run, toy_store, tmp_path):
    for name in ("b-run", "c-copy"):
        shutil.copytree(toy_run.path, tmp_path / name)
        evaluate(tmp_path / name, data=toy_store, device="cpu", progress=False)
    again = run_of_weights(toy_run.checkpoint, run=tmp_path / "a-weights")
    evaluate(again, data=toy_store, device="cpu", progress=False)
    assert [run.path.name for run in find_runs(tmp_path)] == ["b-run"]
    other = recipes.with_settings(toy_run.recipe, ["seed=7"])
    changed = run_of_weights(toy_run.checkpoint, recipe=other, run=tmp_path / "d-seed")
    evaluate(changed, data=toy_store, device="cpu", progress=False)
    assert [run.path.name for run in find_runs(tmp_path)] == ["b-run", "d-seed"]
