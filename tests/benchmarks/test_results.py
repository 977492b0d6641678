import json
from dataclasses import replace
from pathlib import Path

import pytest
from harness.results import Memory, SpeedResult, Time

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
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


def time(form, seconds, *, precision="fp32", setting="same", flop=2_000_000_000, load=0.0):
    return Time(
        case="evaluation, batch 8, two persons",
        clips=8,
        setting=setting,
        form=form,
        precision=precision,
        seconds=seconds,
        cpu_seconds=seconds,
        flop=flop,
        other_load=load,
    )


@pytest.fixture
def result():
    """Invented."""
    return SpeedResult(
        facts=FACTS,
        network="MS-G3D (num_classes 60)",
        matmul_rates={"fp32": 200e9, "bf16": 400e9},
        differences={"reference, float64": 2e-15},
        times=(
            time("reference", (4.0, 5.0, 4.0)),
            time("ours", (2.0, 1.0, 9.0)),
            time("reference", (2.0, 2.0, 2.0), precision="bf16"),
            time("compiled", (0.5, 0.5, 0.5), precision="bf16", flop=0),
            time("reference", (8.0, 8.0, 8.0), setting="shipped"),
            time("ours", (2.0, 2.0, 2.0), setting="shipped"),
        ),
        memory=(
            Memory("training step", "reference", "fp32", 4_000_000, 5_000_000, None),
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
    assert "reference, float64: 2e-15" in page


def test_page_says_what_makes_its_numbers_doubtful(result):
    page = result.markdown()
    assert "not quiet" not in page
    assert "not to be quoted" not in page
    busy = replace(result, times=(time("ours", (1.0,), load=0.7),))
    assert "other programs kept up to 0.7 cores busy" in busy.markdown()
    quick = replace(result, facts=FACTS | {"quick": True, "LD_PRELOAD": "jemalloc.so"})
    assert "not to be quoted" in quick.markdown()
    assert "LD_PRELOAD=jemalloc.so" in quick.markdown()


def test_save_writes_the_page_and_every_number(result, tmp_path):
    page = tmp_path / "speed.md"
    for _ in range(2):  # it replaces what is there
        result.save(page, extra="\nmore\n")
    assert page.read_text(encoding="utf-8") == result.markdown() + "\nmore\n"
    numbers = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert numbers["times"][1]["seconds"] == [2.0, 1.0, 9.0]


def test_committed_results_can_be_read():
    for path in RESULTS.glob("speed*.json"):
        numbers = json.loads(path.read_text(encoding="utf-8"))
        times = tuple(Time(**row) for row in numbers.pop("times"))
        memory = tuple(Memory(**row) for row in numbers.pop("memory"))
        page = SpeedResult(**numbers, times=times, memory=memory).markdown()
        saved = path.with_suffix(".md").read_text(encoding="utf-8")
        assert rows(page, "One process") == rows(saved, "One process")
