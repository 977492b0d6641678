import pytest
import speed
import torch
from harness.worker import Measurements
from harness.workloads import Case

NETWORK = {
    "num_classes": 3,
    "base_channels": 6,
    "num_gcn_scales": 2,
    "num_g3d_scales": 2,
    "window_sizes": (3,),
    "window_dilations": (1,),
}


class WorkerInThisProcess:
    """Runs the same calls, and notes who made them."""

    started = []

    def __init__(self, *, allocator, threads, **setup):
        self.measurements, self.calls = Measurements(**setup), []
        self.started.append((allocator, threads, self.calls))

    def call(self, name, **options):
        self.calls.append((name, options.get("form")))
        return getattr(self.measurements, name)(**options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_measure_speed_measures_every_form_as_it_is_shipped(monkeypatch):
    monkeypatch.setattr(speed, "Worker", WorkerInThisProcess)
    monkeypatch.setattr("harness.worker.matmul_rate", lambda **_: 1e9)
    monkeypatch.setattr(WorkerInThisProcess, "started", [])
    lines = []
    result = speed.measure_speed(
        cases=[Case("eval", 2, 0.5)],
        memory_cases=[Case("train", 2, 0.5)],
        precisions=["fp32"],
        network=NETWORK,
        clip_len=4,
        rounds=2,
        threads=1,
        quick=True,
        report=lines.append,
    )
    forms = ["reference", "ours", "fused"]
    found = [(time.setting, time.form) for time in result.times]
    assert found == [(setting, form) for setting in ("same", "shipped") for form in forms]
    assert all(len(t.seconds) == 2 and min(t.seconds) > 0 and t.flop > 0 for t in result.times)
    assert max(result.differences.values()) < 1e-6
    assert [(row.form, row.kept is not None) for row in result.memory] == [
        ("reference", True),
        ("ours", True),
    ]
    assert len(lines) == 5
    assert "| evaluation, batch 2, 1 of 2 clips with one person | ours, fp32 |" in result.markdown()
    # "As shipped" the reference has a process of its own with the default allocator.
    facts, same, ours, reference, *memory = WorkerInThisProcess.started
    assert {threads for _, threads, _ in WorkerInThisProcess.started} == {1}
    assert [facts[0], same[0], ours[0], reference[0]] == ["tuned", "tuned", "tuned", "default"]
    assert {form for _, form in same[2]} == set(forms)
    assert {form for _, form in ours[2]} == {"ours", "fused"}
    assert {form for _, form in reference[2]} == {"reference"}
    assert [allocator for allocator, _, _ in memory] == ["default", "tuned"]


def test_measure_speed_refuses_what_it_cannot_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    nothing = {"cases": [], "memory_cases": [], "precisions": ["fp32"]}
    with pytest.raises(ValueError, match="PyTorch finds none"):
        speed.measure_speed(**nothing, device="cuda")
    for name in ("rounds", "threads", "clip_len"):
        with pytest.raises(ValueError, match=f"expected {name} of 1 or more, found 0"):
            speed.measure_speed(**nothing, **{name: 0})
