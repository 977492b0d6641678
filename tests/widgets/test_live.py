import launchers
import pandas as pd
import pytest

from msg3d_lab import widgets


def metrics(epochs):
    rows = range(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": rows,
            "lr": [0.1 / e for e in rows],
            "train_loss": [2 / e for e in rows],
            "train_top1": [1 - 1 / (1 + e) for e in rows],
            "val_loss": [3 / e for e in rows],
            "val_top1": [1 - 2 / (2 + e) for e in rows],
        }
    )


def running(epoch):
    return {"epoch": epoch, "lr": 0.05, "train_loss": 1.5, "train_top1": 0.5, "clips_per_s": 9.0}


def lines(figure):
    accuracy = figure.axes[0]
    return {line.get_label(): line.get_xdata().tolist() for line in accuracy.get_lines()}


def test_live_curves_are_those_of_the_run():
    live = widgets.LiveCurves(title="mine")
    live(metrics(3))
    assert lines(live.figure) == {"train": [1, 2, 3], "val": [1, 2, 3]}
    assert live.figure.get_suptitle() == "mine"
    live(metrics(4))
    assert lines(live.figure)["val"] == [1, 2, 3, 4]


def test_live_curves_go_on_within_an_epoch():
    live = widgets.LiveCurves(seconds=0)
    live.progress(running(0.2))
    assert live.figure is None  # a single point
    live.progress(running(0.4))
    assert lines(live.figure) == {"train": [0.2, 0.4]}
    live(metrics(1))
    assert lines(live.figure) == {"train": [1], "val": [1]}
    live.progress(running(1.5))
    assert lines(live.figure) == {"train": [1, 1.5], "val": [1]}


def test_live_curves_do_not_redraw_all_the_time():
    live = widgets.LiveCurves(seconds=3600)
    live(metrics(1))
    before = live.figure
    live.progress(running(1.5))
    assert live.figure is before
    live(metrics(2))
    assert live.figure is not before


def test_live_curves_start_anew_for_every_run(tmp_path):
    from msg3d_lab.training import Run, recipes

    live = widgets.LiveCurves(seconds=0)
    live(metrics(3))
    (tmp_path / "seed-2").mkdir()
    recipes.save(recipes.get("synthetic-joint"), tmp_path / "seed-2" / "recipe.yaml")
    live.start(Run(tmp_path / "seed-2"))
    live.progress(running(0.5))
    live.progress(running(0.6))
    assert lines(live.figure) == {"train": [0.5, 0.6]}
    assert live.figure.get_suptitle() == "seed-2"
    # The axis shows how much of the training is still to come.
    epochs = recipes.get("synthetic-joint").training.epochs
    low, high = live.figure.axes[0].get_xlim()
    assert low == 0
    assert epochs <= high < epochs + 1


def test_live_curves_of_a_resumed_run_have_what_was_there_before(tmp_path):
    from msg3d_lab.training import Run, recipes

    metrics(3).to_csv(tmp_path / "metrics.csv", index=False)
    recipes.save(recipes.get("synthetic-joint"), tmp_path / "recipe.yaml")
    live = widgets.LiveCurves(seconds=0)
    live.start(Run(tmp_path))
    live.progress(running(3.5))
    assert lines(live.figure)["train"] == [1, 2, 3, 3.5]
    assert live.figure.get_suptitle() == tmp_path.name
    live.start(Run(tmp_path))  # set back to an older checkpoint
    live.progress(running(1.5))
    assert lines(live.figure)["train"] == [1, 1.5]


@pytest.mark.filterwarnings("ignore")
def test_live_curves_update_one_picture(tmp_path):
    """In a shell of IPython's own: one display, then updates of it."""
    code = """
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
shell = InteractiveShell.instance()
import pandas as pd
from msg3d_lab import widgets

live = widgets.LiveCurves(title="mine")
columns = ["train_loss", "train_top1", "val_loss", "val_top1", "lr"]
with capture_output() as captured:
    for epoch in (1, 2, 3):
        live(pd.DataFrame({"epoch": range(1, epoch + 1), **{c: 0.5 for c in columns}}))
for output in captured.outputs:
    print(output.update, output.transient["display_id"], output.data["image/png"][:8])
"""
    environment = {"IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path)}
    script, said = tmp_path / "script.py", tmp_path / "said"
    script.write_text(code)
    process = launchers.start(script, environment=environment, output=said)
    assert launchers.finish([process]) == [0], said.read_text()
    shown = said.read_text().split("\n")[:-1]
    assert [line.split()[0] for line in shown] == ["False", "True", "True"]
    assert len({line.split()[1] for line in shown}) == 1
    assert all("PNG" in line or "iVBOR" in line for line in shown)
