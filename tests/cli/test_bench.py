import sys

import pytest

from msg3d_lab.benchmarking import Case


@pytest.mark.slow
def test_bench_prints_and_saves(shell, tmp_path, monkeypatch):
    """The smallest there is: one case, one thread, one round, no memory."""
    module = sys.modules["msg3d_lab.benchmarking.bench"]
    monkeypatch.setattr(module, "QUICK_CASES", (Case("eval", 1),))
    words = [
        "bench",
        "--quick",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--no-memory",
        "--device",
        "cpu",
    ]
    code, out, err = shell(*words, "--out", "mine.md")
    assert code == 0, err
    page = (tmp_path / "mine.md").read_text(encoding="utf-8")
    assert page in out
    assert "not to quote" in page
    assert "ours, inference form, bf16" in page
    assert (tmp_path / "mine.json").is_file()
    assert "measuring: latency" in err


def test_bench_says_before_measuring_that_a_file_is_in_the_way(shell, tmp_path):
    (tmp_path / "mine.json").touch()
    code, _, err = shell("bench", "--out", "mine.md")
    assert code == 2
    assert "mine.json exists already" in err
    code, _, err = shell("bench", "--out", "page.txt")
    assert code == 2
    assert "end in .md" in err
    code, _, err = shell("bench", "--out", "page.md", "--threads", "0")
    assert code == 2
    assert "expected threads of 1 or more, found 0" in err


def test_bench_numbers_its_pages(tmp_path, monkeypatch):
    from msg3d_lab.cli.bench import _free_path

    monkeypatch.chdir(tmp_path)
    first = _free_path()
    assert first.name.startswith("bench-20")
    first.with_suffix(".json").touch()
    assert _free_path().name == f"{first.stem}-2.md"
