import json
from dataclasses import replace

import pytest
from harness import BenchResult, Case, bench
from harness.bench import Memory, Time
from harness.worker import Worker

TINY = {"num_classes": 3, "base_channels": 6, "num_gcn_scales": 2, "num_g3d_scales": 2}
CASE = Case("eval", 2, 0.5)
FACTS = {
    "date": "2020-01-01T00:00+00:00",
    "processor": "Invented",
    "cores": 2,
    "threads": 2,
    "python": "3.11",
    "packages": {"torch": "2.13"},
    "c_library": "glibc 2.36",
    "commit": "abc",
    "rounds": 3,
    "quick": False,
    "clip_len": 100,
}


def time(side, seconds, *, precision="fp32", setting="same", flop=2_000_000_000, load=0.0):
    return Time(
        case="evaluation, batch 8, two persons",
        clips=8,
        setting=setting,
        side=side,
        precision=precision,
        seconds=seconds,
        cpu_seconds=seconds,
        flop=flop,
        other_load=load,
    )


@pytest.fixture
def result():
    """Invented."""
    return BenchResult(
        facts=FACTS,
        network="MS-G3D (num_classes 60)",
        peaks={"fp32": 200e9, "bf16": 400e9},
        differences={"yardstick, float64": 2e-15},
        times=(
            time("yardstick", (4.0, 5.0, 4.0)),
            time("ours", (2.0, 1.0, 9.0)),
            time("yardstick", (2.0, 2.0, 2.0), precision="bf16"),
            time("compiled", (0.5, 0.5, 0.5), precision="bf16", flop=0),
            time("yardstick", (8.0, 8.0, 8.0), setting="shipped"),
            time("ours", (2.0, 2.0, 2.0), setting="shipped"),
        ),
        memory=(
            Memory("training step", "yardstick", "fp32", 4_000_000, 5_000_000, None),
            Memory("training step", "ours", "fp32", 1_000_000, 2_000_000, None),
        ),
    )


def rows(page, section):
    text = page.split(f"## {section}")[1].split("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_page_shows_medians_ratios_and_rates(result):
    page = result.markdown()
    plain, ours, _, compiled = rows(page, "One process")
    assert plain[2:] == ["4 (4 to 5)", "2", "0", "0 %", "", ""]
    assert ours[1:] == ["ours, fp32", "2 (1 to 9)", "4", "1", "0 %", "2.00", "2.00"]
    # Against bf16, then against fp32; nobody counted its products.
    assert compiled[1:] == [
        "ours, inference form, compiled, bf16",
        "0.5 (0.5 to 0.5)",
        "16",
        "",
        "",
        "4.00",
        "8.00",
    ]
    assert rows(page, "As shipped")[1][-1] == "4.00"
    assert rows(page, "Memory")[1][2:] == ["1 (0.25)", "2 (0.40)", ""]
    assert "Invented (2 cores), 2 threads" in page
    assert "200 GFLOP/s fp32, 400 GFLOP/s bf16" in page
    assert "yardstick, float64: 2e-15" in page


def test_page_says_what_makes_its_numbers_doubtful(result):
    page = result.markdown()
    assert "not quiet" not in page
    assert "not to quote" not in page
    busy = replace(result, times=(time("ours", (1.0,), load=0.7),))
    assert "others kept up to 0.7 cores busy" in busy.markdown()
    quick = replace(result, facts=FACTS | {"quick": True, "LD_PRELOAD": "jemalloc.so"})
    assert "not to quote" in quick.markdown()
    assert "LD_PRELOAD=jemalloc.so" in quick.markdown()


def test_page_without_a_yardstick_has_no_ratios(result):
    alone = replace(result, times=(time("ours", (1.0,)),), memory=result.memory[1:])
    page = alone.markdown()
    assert "As shipped" not in page
    assert "yardstick" not in page.replace("yardstick, float64: 2e-15", "")
    assert len(rows(page, "One process")[0]) == 6


def test_save_writes_both_files_and_overwrites_nothing(result, tmp_path):
    page, numbers = result.save(tmp_path / "speed.md")
    assert page.read_text(encoding="utf-8") == result.markdown()
    kept = json.loads(numbers.read_text(encoding="utf-8"))
    assert kept["times"][1]["seconds"] == [2.0, 1.0, 9.0]
    with pytest.raises(FileExistsError):
        result.save(page)
    page.unlink()
    with pytest.raises(FileExistsError, match=r"speed\.json"):
        result.save(page)
    assert not page.exists()
    result.save(page, overwrite=True)
    with pytest.raises(ValueError, match=r"ending in \.md"):
        result.save(tmp_path / "speed.txt")


@pytest.mark.slow
def test_bench_measures_both_sides_in_processes_of_their_own():
    said = []
    result = bench(
        against="yardstick",
        quick=True,
        rounds=2,
        threads=1,
        device="cpu",
        network=TINY,
        clip_len=8,
        cases=[CASE],
        memory_cases=[],
        precisions=["fp32"],
        say=said.append,
    )
    found = [(t.setting, t.side) for t in result.times]
    both = ["yardstick", "ours", "fused"]
    assert found == [(setting, side) for setting in ("same", "shipped") for side in both]
    assert all(len(t.seconds) == 2 and min(t.seconds) > 0 and t.flop > 0 for t in result.times)
    assert result.differences["yardstick, float64"] < 1e-10
    assert result.facts["threads"] == 1
    assert len(said) == 3
    assert len(rows(result.markdown(), "One process")) == 3


def test_bench_says_what_it_cannot_do(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="PyTorch finds none"):
        bench(device="cuda")
    for name in ("rounds", "threads", "clip_len"):
        with pytest.raises(ValueError, match=f"expected {name} of 1 or more, found 0"):
            bench(device="cpu", **{name: 0})


@pytest.mark.slow
def test_worker_hands_on_what_went_wrong():
    with Worker(allocator="default", threads=1, device="cpu", network=TINY, clip_len=8) as worker:
        with pytest.raises(RuntimeError, match="KeyError"):
            worker.call("run", side="ours", precision="fp32")
        assert worker.call("forget") is None  # it goes on
        worker._process.kill()
        with pytest.raises(ChildProcessError, match="exit code -9"):
            worker.call("forget")
