import pytest
from harness.worker import Measurements, Worker
from harness.workloads import Case

NETWORK = {
    "num_classes": 4,
    "base_channels": 6,
    "num_gcn_scales": 2,
    "num_g3d_scales": 2,
    "window_sizes": (3,),
    "window_dilations": (1,),
}


@pytest.fixture(scope="module")
def measurements():
    return Measurements(device="cpu", network=NETWORK, clip_len=8)


@pytest.mark.slow
def test_worker_measures_in_a_process_of_its_own_and_passes_errors_on():
    setup = {"allocator": "default", "threads": 1, "device": "cpu", "network": NETWORK}
    with Worker(**setup, clip_len=8) as worker:
        assert worker.call("facts")["threads"] == 1
        case = {"form": "ours", "precision": "fp32"}
        with pytest.raises(RuntimeError, match="KeyError"):
            worker.call("run", **case)
        assert worker.call("prepare", case=Case("eval", 1), **case) > 0  # it goes on
        assert worker.call("run", **case).seconds > 0
        worker._process.kill()
        with pytest.raises(ChildProcessError, match="exit code -9"):
            worker.call("facts")


def test_measurements_count_the_same_products_whoever_multiplies():
    """Without G3D, whose order of products differs, both forms multiply the same matrices."""
    network = NETWORK | {"pathways": ("factorized",)}
    measurements = Measurements(device="cpu", network=network, clip_len=8)
    case = Case("eval", 1)
    flop = {
        form: measurements.prepare(case=case, form=form, precision="fp32")
        for form in ("reference", "ours", "fused")
    }
    assert len(set(flop.values())) == 1
    assert flop["ours"] > 0
    assert measurements.run(form="ours", precision="fp32").seconds > 0


def test_measurements_count_bf16_and_training_as_well(measurements):
    fp32, bf16 = (
        measurements.prepare(case=Case("eval", 2), form="ours", precision=p)
        for p in ("fp32", "bf16")
    )
    assert fp32 == bf16
    assert measurements.prepare(case=Case("train", 2), form="ours", precision="fp32") > 2 * fp32


def test_measurements_find_the_forms_alike(measurements):
    found = measurements.differences(("reference", "fused"))
    assert set(found) == {"reference", "fused"}
    assert max(found.values()) < 1e-6


def test_measurements_measure_memory(measurements):
    kept = {
        form: measurements.tensors(case=Case("train", 4, 0.5), form=form, precision="fp32")
        for form in ("reference", "ours")
    }
    assert 0 < kept["ours"]["kept"] < kept["reference"]["kept"]
    # A step frees the old gradients before it keeps anything for the new ones.
    gradients = sum(4 * parameter.numel() for parameter in measurements.model.parameters())
    assert kept["reference"]["kept"] <= kept["reference"]["peak"] + gradients
    evaluation = measurements.tensors(case=Case("eval", 4), form="ours", precision="fp32")
    assert set(evaluation) == {"peak"}
    process = measurements.process(case=Case("eval", 4), form="ours", precision="fp32")
    assert process is None or process >= 0
