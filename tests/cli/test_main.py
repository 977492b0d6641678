import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from msg3d_lab import MSG3D, load_model, save_model
from msg3d_lab.cli import main
from msg3d_lab.training import open_run, recipes


def everything_below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def nw_ucla_zip(path, *, clips=24, broken=False):
    """A made-up download in NW-UCLA's format."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(clips):
            action, view = (1, 2, 3)[i % 3], 1 + (i // 3) % 3
            name = f"a{action:02d}_s01_e{i:02d}_v{view:02d}"
            frames = rng.normal((0, i % 3, 0), size=(5 + i % 4, 20, 3))
            content = json.dumps({"file_name": name, "skeletons": frames.tolist()})
            if broken:
                content = content[: len(content) // 2]
            archive.writestr(f"all_sqe/{name}.json", content)
    return path


QUICK = ["--set", "epochs=1", "repeat=1", "base_channels=6", "batch_size=4", "clip_len=8"]
QUICK += ["num_gcn_scales=2", "num_g3d_scales=2"]


def test_import_train_test_from_the_shell(shell, tmp_path):
    nw_ucla_zip(tmp_path / "all_sqe.zip")
    code, out, err = shell("data", "import", "all_sqe.zip", "--dataset", "nw-ucla")
    assert (code, Path("data/nw-ucla.arrow").is_file()) == (0, True), err
    assert "nw-ucla20, 20 joints" in out
    assert shell("data", "info", "data/nw-ucla.arrow")[1] == out
    code, out, err = shell("train", "nw-ucla-joint-compact", *QUICK, "--device", "cpu")
    assert code == 0, err
    assert "learning rate 0.00075" in out
    assert "Next: msg3d-lab test runs/nw-ucla-joint-compact" in out
    code, out, err = shell("test", "runs/nw-ucla-joint-compact", "--device", "cpu")
    assert code == 0, err
    assert "top-1" in out
    assert "mean class" in out
    run = open_run("runs/nw-ucla-joint-compact")
    assert run.scores_path.is_file()
    assert "<html" in (run.path / "report.html").read_text(encoding="utf-8")
    assert load_model(run.path).num_classes == 10


def test_train_sets_what_it_is_told(shell, tmp_path):
    nw_ucla_zip(tmp_path / "z.zip")
    shell("data", "import", "z.zip", "--dataset", "nw-ucla", "--out", "mine.arrow")
    options = ["--data", "mine.arrow", "--run", "mine", "--device", "cpu"]
    assert shell("train", "nw-ucla-bone", *options, *QUICK, "schedule=cosine")[0] == 0
    recipe = open_run("mine").recipe
    assert (recipe.data.stream, recipe.training.schedule) == ("bone", "cosine")
    assert recipe.model.base_channels == 6


def test_train_resumes_a_run_and_says_when_it_is_finished(shell, tmp_path):
    nw_ucla_zip(tmp_path / "z.zip")
    shell("data", "import", "z.zip", "--dataset", "nw-ucla", "--out", "mine.arrow")
    words = ["train", "nw-ucla-joint", "--data", "mine.arrow", "--run", "mine", "--device", "cpu"]
    assert shell(*words, "--resume", *QUICK)[0] == 0  # there is none yet: it is started
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "mine").iterdir()}
    code, out, _ = shell(*words, "--resume", *QUICK)
    assert code == 0
    assert "Finished: mine; test (1 clip)" in out
    code, _, err = shell(*words, "--resume", *QUICK, "learning_rate=0.5")
    assert (code, err.count("\n")) == (2, 1)
    assert "training.learning_rate is 0.1 in the run and 0.5 now" in err
    code, _, err = shell(*words, *QUICK)
    assert (code, "mine exists already: name another" in err) == (2, True)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "mine").iterdir()}
    (tmp_path / "mine" / "model.safetensors").unlink()
    code, _, err = shell(*words, *QUICK)
    assert (code, "go on with it by --resume" in err) == (2, True)


def test_train_several_seeds_with_mean_and_sd(shell, tmp_path):
    nw_ucla_zip(tmp_path / "z.zip")
    shell("data", "import", "z.zip", "--dataset", "nw-ucla", "--out", "mine.arrow")
    words = ["train", "nw-ucla-joint", "--data", "mine.arrow", "--run", "mine", "--device", "cpu"]
    code, out, err = shell(*words, "--seeds", "1", "2", *QUICK)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[-4:]] == ["1", "2", "mean", "sd"]
    assert [p.name for p in sorted((tmp_path / "mine").iterdir())] == ["seed-1", "seed-2"]
    code, _, err = shell(*words, "--seeds", "1", "1", *QUICK)
    assert (code, "expected every seed once" in err) == (2, True)


def test_train_slurm_refuses_what_slurm_decides(shell):
    request = ["--slurm", "partition=gpu,gpus=1,hours=1"]
    code, _, err = shell("train", "synthetic-joint", *request, "--device", "cpu")
    assert (code, "--slurm goes without --device" in err) == (2, True)
    code, _, err = shell("train", "synthetic-joint", "--slurm", "partition=gpu,gpu=1,hours=1")
    assert (code, "did you mean gpus?" in err) == (2, True)


def test_recipes_lists_and_prints(shell, tmp_path):
    code, out, _ = shell("recipes")
    assert (code, out.split()) == (0, recipes.names())
    code, out, _ = shell("recipes", "nw-ucla-joint")
    (tmp_path / "mine.yaml").write_text(out)
    assert recipes.load(tmp_path / "mine.yaml") == recipes.get("nw-ucla-joint")


def test_recipes_new_writes_a_recipe_for_a_store(shell, tmp_path, toy_store):
    code, out, _ = shell("recipes", "new", "--data", str(toy_store.path), "--set", "epochs=3")
    assert (code, "trained on xsub_train and tested on xsub_val" in out) == (0, True)
    written = recipes.load(tmp_path / "toy-joint.yaml")
    assert (written.data.dataset, written.data.layout) == ("toy", "toy5")
    assert (written.training.epochs, written.model.num_persons) == (3, 2)
    for words, message in (
        (["--data", str(toy_store.path)], "exists"),
        ([], "--data STORE"),
        (["--data", str(toy_store.path), "--out", "r.txt"], "end in .yaml"),
    ):
        code, _, err = shell("recipes", "new", *words)
        assert (code, message in err) == (2, True), err
    code, _, err = shell("recipes", "--like", "nw-ucla-joint")
    assert (code, "go with `msg3d-lab recipes new`" in err) == (2, True)


def test_convert_from_the_shell(shell, tmp_path):
    model = MSG3D(num_classes=3, base_channels=6, num_gcn_scales=2, num_g3d_scales=2).eval()
    save_model(model, tmp_path / "own.safetensors")
    assert shell("convert", "own.safetensors", "author.pt", "--to", "author")[0] == 0
    assert shell("convert", "author.pt", "back.safetensors")[0] == 0
    x = torch.randn(1, 2, 8, 25, 3)
    assert torch.equal(load_model("back.safetensors")(x), model(x))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def bad_inputs(folder):
    """name -> (words, what the message must say)."""
    whole = {"split": {"xsub_train": ["a"]}, "annotations": [{"frame_dir": "a" * 1000}]}
    (folder / "cut.pkl").write_bytes(pickle.dumps(whole)[:700])
    (folder / "evil.pkl").write_bytes(pickle.dumps({"split": Evil(folder / "ran")}))
    nw_ucla_zip(folder / "broken.zip", broken=True)
    nw_ucla_zip(folder / "good.zip")
    (folder / "text.pkl").write_text("hello")
    save_model(MSG3D(num_classes=3, base_channels=6), folder / "own.safetensors")
    from msg3d_lab.model import convert

    convert(folder / "own.safetensors", folder / "missing.pt", to="author")
    state = torch.load(folder / "missing.pt")
    del state["tcn3.branches.0.0.weight"]
    torch.save(state, folder / "missing.pt")
    torch.save({"state_dict": Evil(folder / "ran")}, folder / "evil.pth")
    text = recipes.to_yaml(recipes.get("synthetic-joint"))
    (folder / "misspelt.yaml").write_text(text.replace("epochs:", "epocsh:"))
    main(
        [
            "data",
            "import",
            str(folder / "good.zip"),
            "--dataset",
            "nw-ucla",
            "--out",
            str(folder / "ucla.arrow"),
        ]
    )
    (folder / "cut.arrow").write_bytes((folder / "ucla.arrow").read_bytes()[:5000])
    (folder / "run").mkdir()
    imported = ["--out", "new.arrow"]
    return {
        "truncated pickle": (
            ["data", "import", "cut.pkl", "--dataset", "ntu60", *imported],
            "cut.pkl",
        ),
        "pickle that runs code": (
            ["data", "import", "evil.pkl", "--dataset", "ntu60", *imported],
            "refused",
        ),
        "zip of broken JSON": (
            ["data", "import", "broken.zip", "--dataset", "nw-ucla", *imported],
            "none that can be used; for example a01_s01_e00_v01 cannot be read (",
        ),
        "unknown format": (
            ["data", "import", "text.pkl", "--dataset", "ntu60", *imported],
            "format",
        ),
        "unknown data set": (
            ["data", "import", "good.zip", "--dataset", "ntu61", *imported],
            "ntu60",
        ),
        "wrong data set": (
            ["data", "import", "good.zip", "--dataset", "ntu60", *imported],
            "nw-ucla",
        ),
        "no source": (["data", "import", "none.zip", "--dataset", "ntu60", *imported], "none.zip"),
        "existing store": (
            ["data", "import", "good.zip", "--dataset", "nw-ucla", "--out", "ucla.arrow"],
            "exists",
        ),
        "truncated store": (["data", "info", "cut.arrow"], "cut.arrow"),
        "missing tensor": (
            ["convert", "missing.pt", "new.safetensors"],
            r"tcn3.branches.0.0.weight",
        ),
        "checkpoint that runs code": (["convert", "evil.pth", "new.safetensors"], "refused"),
        "existing target": (["convert", "own.safetensors", "ucla.arrow"], "exists"),
        "misspelt key": (["train", "misspelt.yaml", "--run", "new"], "epocsh"),
        "misspelt setting": (
            ["train", "synthetic-joint", "--run", "new", "--set", "epocsh=1"],
            "training.epochs",
        ),
        "unknown recipe": (["train", "ntu61", "--run", "new"], "unknown recipe"),
        "malformed setting": (
            ["train", "synthetic-joint", "--run", "new", "--set", "scale=[0.5"],
            "is not YAML",
        ),
        "store of other joints": (
            ["train", "synthetic-joint", "--data", "ucla.arrow", "--run", "new"],
            "nw-ucla20",
        ),
        "existing run folder": (
            ["train", "nw-ucla-joint", "--data", "ucla.arrow", "--run", "run"],
            "exists",
        ),
        "store of another layout": (
            [
                "train",
                "synthetic-joint",
                "--data",
                "ucla.arrow",
                "--run",
                "new",
                "--set",
                "dataset=nw-ucla",
            ],
            "needs joints of ntu25",
        ),
        "no store": (["train", "nw-ucla-joint", "--run", "new"], "data import"),
        "not a run": (["test", "run"], "not a run folder"),
        "not a model": (["convert", "broken.zip", "new.safetensors"], "broken.zip"),
    }


BAD = [
    "truncated pickle",
    "pickle that runs code",
    "zip of broken JSON",
    "unknown format",
    "unknown data set",
    "wrong data set",
    "no source",
    "existing store",
    "truncated store",
    "missing tensor",
    "checkpoint that runs code",
    "existing target",
    "misspelt key",
    "misspelt setting",
    "unknown recipe",
    "malformed setting",
    "store of other joints",
    "existing run folder",
    "store of another layout",
    "no store",
    "not a run",
    "not a model",
]


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    return folder, bad_inputs(folder)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_clear_line_and_leaves_nothing(case, bad_folder, monkeypatch, capsys):
    folder, cases = bad_folder
    assert set(cases) == set(BAD)
    words, message = cases[case]
    monkeypatch.chdir(folder)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(words)
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("msg3d-lab:")]
    assert stopped.value.code == 2, shown.err
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in shown.err
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_wrong_words_end_with_code_2(shell):
    assert shell("trian")[0] == 2
    assert shell("train")[0] == 2
    assert shell("data", "export")[0] == 2


def test_help_is_shown_without_words(shell):
    code, out, _ = shell()
    assert code == 0
    for command in ("demo", "data", "recipes", "train", "test", "convert"):
        assert command in out
    code, out, _ = shell("data")
    assert (code, "import" in out, "info" in out) == (0, True, True)


def test_interrupting_is_no_crash(shell, monkeypatch):
    from msg3d_lab.training import recipes as library

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "names", interrupted)
    code, _, err = shell("recipes")
    assert (code, err.strip()) == (130, "msg3d-lab: stopped")


def test_python_m_and_the_console_script_are_the_same():
    environment = {**os.environ, "COLUMNS": "100"}
    script = Path(sys.executable).with_name("msg3d-lab")
    outputs = [
        subprocess.run([*c, "--help"], capture_output=True, check=True, env=environment).stdout
        for c in ([sys.executable, "-m", "msg3d_lab"], [script])
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith(b"usage: msg3d-lab ")


def test_a_log_file_gets_a_line_of_progress_now_and_then(monkeypatch, capsys):
    """tqdm reads the interval from this variable; without it a log had two lines per step."""
    monkeypatch.delenv("TQDM_MININTERVAL", raising=False)
    main(["recipes"])
    assert os.environ["TQDM_MININTERVAL"] == "10"
    monkeypatch.setenv("TQDM_MININTERVAL", "60")
    main(["recipes"])
    assert os.environ["TQDM_MININTERVAL"] == "60"
