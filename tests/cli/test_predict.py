import io
import json
import pickle

import numpy as np
import pytest

from msg3d_lab.cli import main
from msg3d_lab.data.synthetic.dataset import record


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "wave.npy"
    np.save(path, record("S001C001P003R001A005")[0])
    return path


def test_a_recording_as_table_json_and_page(small_run, recording, tmp_path, capsys):
    out, page = tmp_path / "p.json", tmp_path / "p.html"
    words = ["predict", str(small_run.path), str(recording), "--device", "cpu", "--top", "3"]
    main([*words, "--json", str(out), "--report", str(page)])
    (entry,) = json.loads(out.read_text())
    assert entry["id"] == "wave"
    assert len(entry["classes"]) == 3
    assert entry["classes"][0]["class"] in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "trained on synthetic data" in text
    assert entry["classes"][0]["class"] in text
    assert text.count("<canvas") == 1
    assert text.count('<td class="number">') == 3


def test_windows(small_run, recording, tmp_path, capsys):
    out = tmp_path / "w.json"
    words = ["predict", str(small_run.path), str(recording), "--device", "cpu"]
    main([*words, "--windows", "--json", str(out), "--figure", str(tmp_path / "t.png")])
    assert (tmp_path / "t.png").stat().st_size > 10_000
    (entry,) = json.loads(out.read_text())
    assert {"id", "file", "segments"} == set(entry)
    one = {"keypoint": np.load(recording)}
    (tmp_path / "two.pkl").write_bytes(pickle.dumps([one, one]))
    words[2] = str(tmp_path / "two.pkl")
    with pytest.raises(SystemExit):
        main([*words, "--windows", "--figure", str(tmp_path / "two.png")])
    assert "two.pkl: --figure draws one recording, and here are several" in capsys.readouterr().err


def test_a_stream_of_lines(small_run, recording, capsys, monkeypatch):
    frames = np.load(recording)[0, :24]
    lines = "".join(json.dumps(frame.tolist()) + "\n" for frame in frames)
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    main(["predict", str(small_run.path), "--stream", "--every", "8", "--device", "cpu"])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["frame"] for answer in answers] == [7, 15, 23]
    assert all(answer["latency_ms"] > 0 for answer in answers)


def test_weights_are_taken_where_a_run_is(small_run, recording, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--weights", str(small_run.checkpoint), "--device", "cpu", "--top", "2"]
    words += ["--recipe", str(small_run.path / "recipe.yaml")]
    main(["predict", str(recording), *words])
    by_weights = capsys.readouterr().out
    main(["predict", str(small_run.path), str(recording), "--device", "cpu", "--top", "2"])
    assert by_weights == capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["export", "--weights", str(small_run.checkpoint), *words[-2:]])
    assert "expected a run and the file to write" in capsys.readouterr().err


def test_a_bad_file_does_not_cost_the_others(small_run, recording, tmp_path, capsys):
    out = tmp_path / "p.json"
    np.save(tmp_path / "bad.npy", np.zeros((1, 4, 25, 3)))
    words = ["predict", str(small_run.path), str(tmp_path / "bad.npy"), str(recording)]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--json", str(out), "--device", "cpu"])
    assert stopped.value.code == 2
    assert "1 of 2 could not be predicted" in (error := capsys.readouterr().err)
    assert "bad.npy: nobody is in any frame" in error
    assert [entry["id"] for entry in json.loads(out.read_text())] == ["wave"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected recordings to predict, or --stream"),
        (["--stream", "x.npy"], "expected recordings to predict, or --stream"),
        (["x.npy", "--report", "r.html", "--windows"], "--report goes without --windows"),
        (["x.npy", "--figure", "t.png"], "--figure goes with --windows and one file"),
        (["--stream", "--windows"], "--stream goes without --windows and --json"),
        (["--stream", "--json", "p.json"], "--stream goes without --windows and --json"),
        (["x.npy"], "no file or folder x.npy"),
        (["x.npy", "--top", "0"], "expected --top of at least 1"),
        (["--stream"], "line 1 of standard input: is no JSON"),
    ],
)
def test_mistakes_are_one_line(small_run, words, message, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    with pytest.raises(SystemExit) as stopped:
        main(["predict", str(small_run.path), *words, "--device", "cpu"])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
