import pytest

from msg3d_lab.cli import main
from msg3d_lab.demo import demo, demo_run
from msg3d_lab.training import open_run

QUICK = ["epochs=1", "base_channels=6", "clip_len=8", "num_gcn_scales=2", "num_g3d_scales=2"]


@pytest.mark.slow
def test_demo_goes_from_nothing_to_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
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

    # Again: the first run stays, the data set is not made anew.
    stores = list((tmp_path / "data").iterdir())
    modified = [p.stat().st_mtime_ns for p in stores]
    assert demo(settings=QUICK, progress=False).path.name == "demo-2"
    assert [p.stat().st_mtime_ns for p in stores] == modified
    assert demo_run("runs/demo").path == run.path
    with pytest.raises(FileExistsError):
        demo("runs/demo", settings=QUICK, progress=False)
    run.scores_path.unlink()
    with pytest.raises(FileExistsError, match="stopped before its end: remove it"):
        demo_run("runs/demo")
