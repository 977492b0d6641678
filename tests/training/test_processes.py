import pytest

from msg3d_lab.training.processes import _started

SLURM = {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 1)),
        ({"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (4, 2)),
        (SLURM, (4, 2)),
        ({"SLURM_NTASKS": "8"}, (8, 1)),
        # A shell inside an allocation has the variables too, but is one process.
        ({**SLURM, "SLURM_JOB_NAME": "bash"}, (1, 1)),
        ({**SLURM, "SLURM_JOB_NAME": "interactive"}, (1, 1)),
        # torchrun inside a job: its own word counts.
        ({**SLURM, "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}, (2, 1)),
    ],
)
def test_started_reads_what_torchrun_and_srun_announce(environment, expected, monkeypatch):
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE", *SLURM):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _started() == expected


def test_started_refuses_uneven_machines(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for name, value in {**SLURM, "SLURM_NTASKS": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="3 tasks on 2 machines"):
        _started()
