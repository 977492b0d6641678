import pytest

from msg3d_lab import demo
from msg3d_lab.cli import main
from msg3d_lab.data.synthetic import dataset
from msg3d_lab.demo import open_demo, run_demo
from msg3d_lab.training import open_run
from msg3d_lab.training.session import Session

QUICK = ["epochs=1", "base_channels=6", "clip_len=8", "num_gcn_scales=2", "num_g3d_scales=2"]
QUICK += ["window_sizes=[3]", "window_dilations=[1]", "tcn_dilations=[1]"]


@pytest.mark.slow
def test_demo_goes_from_nothing_to_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Four of the forty people, two of them for testing, seen by one camera.
    few = [clip for clip in dataset.generate(subjects=(1, 2, 3, 6)) if clip.camera == 1]
    monkeypatch.setattr(dataset, "generate", lambda repetitions: few)
    main(["demo", "--set", *QUICK])
    out = capsys.readouterr().out
    run = open_run("runs/demo")
    assert (run.path / "report.html").is_file()
    assert run.scores_path.is_file()
    assert str((run.path / "report.html").resolve()) in out
    assert "SYNTHETIC" in out
    assert "top-1 %" in out
    assert "make lab" in out
    assert "NTU" in out

    # Again: the first run stays, the data set is not made anew. The report is known by now.
    reports = []
    monkeypatch.setattr(demo, "write_report", lambda run, store: reports.append(run.path.name))
    (store,) = (tmp_path / "cache").rglob("*.arrow")
    modified = store.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(Session, "finish", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_demo(settings=QUICK, progress=False)
    assert store.stat().st_mtime_ns == modified
    assert open_demo("runs/demo").path == run.path
    with pytest.raises(FileExistsError):
        run_demo("runs/demo", settings=QUICK, progress=False)

    # Stopped in the test, or in training: it goes on.
    run.scores_path.unlink()
    weights = run.checkpoint.stat().st_mtime_ns
    assert open_demo("runs/demo", settings=QUICK).scores_path.is_file()
    assert run.checkpoint.stat().st_mtime_ns == weights
    assert not open_run("runs/demo-2").finished
    with pytest.raises(ValueError, match=r"epochs is 1 in the run and 2 now"):
        open_demo("runs/demo-2", settings=[*QUICK, "epochs=2"])
    whole = open_demo("runs/demo-2", settings=QUICK)
    assert whole.finished
    assert whole.scores_path.is_file()
    assert whole.environment["resumed"] == 1
    assert reports == ["demo", "demo-2"]
    (tmp_path / "runs" / "other").mkdir()
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        open_demo("runs/other")


def stopped(*words):
    raise KeyboardInterrupt
