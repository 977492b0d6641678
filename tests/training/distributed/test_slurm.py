import os
import pickle
import signal
import stat
import sys
import time
from types import SimpleNamespace

import pytest

from msg3d_lab.cli import main
from msg3d_lab.experiments.seeds import submit_seeds
from msg3d_lab.training import TensorBoard, recipes
from msg3d_lab.training import fit as run_fit
from msg3d_lab.training.distributed import slurm as cluster
from msg3d_lab.training.distributed.slurm import Slurm, TrainingJob, parse_slurm, submit
from msg3d_lab.training.signals import Requeue

WARNING = signal.SIGUSR2
ASKED = {"partition": "gpu", "gpus": 8, "hours": 4.0}
SLURM = Slurm(**ASKED)


def test_parse_slurm_reads_every_kind_of_value():
    text = "partition=gpu, gpus=8,hours=1.5,nodes=2,memory_gb=64,account=lab-7,constraint=a100&nv"
    assert parse_slurm(text) == Slurm(
        partition="gpu",
        gpus=8,
        hours=1.5,
        nodes=2,
        memory_gb=64,
        account="lab-7",
        constraint="a100&nv",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--slurm: partition: Field required; gpus: Field required; hours: Field required"),
        ("partition=gpu,hours=4", "gpus: Field required"),
        ("gpu,gpus=8", "expected key=value between the commas of --slurm, found 'gpu'"),
        ("partition=,gpus=8", "expected key=value .* found 'partition='"),
        ("partition=gpu,gpu=8", r"no 'gpu': did you mean gpus\?"),
        ("partition=gpu,colour=red", "no 'colour': expected partition, gpus, hours, nodes"),
        ("gpus=eight", r"gpus: Input should be a valid integer.* \(found 'eight'\)"),
        ("gpus=1.5", "gpus: Input should be a valid integer"),
        ("hours=4h", r"hours: Input should be a valid number.* \(found '4h'\)"),
        ("partition=gpu,gpus=-1,hours=1", "gpus: Input should be greater than or equal to 0"),
        ("gpus=8,gpus=4", "has gpus twice: 8 and 4"),
    ],
)
def test_parse_slurm_says_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        parse_slurm(text)


def test_sbatch_options_ask_for_a_process_per_gpu():
    slurm = Slurm(**ASKED, nodes=2, memory_gb=100, account="lab")
    options = slurm.sbatch_options("toy")
    assert options == {
        "job_name": "toy",
        "partition": "gpu",
        "time": 240,
        "nodes": 2,
        "ntasks_per_node": 8,
        "gpus_per_node": 8,
        "cpus_per_task": 4,
        "srun_args": ["--cpus-per-task=4"],
        "mem": "100GB",
        "account": "lab",
        "signal_delay_s": 180,
        "additional_parameters": {"requeue": True},
    }


def test_sbatch_options_without_gpus_ask_for_one_process_on_each_machine():
    options = Slurm(partition="cpu", gpus=0, hours=0.5, nodes=3).sbatch_options("toy")
    assert options["ntasks_per_node"] == 1
    assert options["time"] == 30
    assert not {"gpus_per_node", "mem", "account", "qos", "constraint"} & set(options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gpus": -1}, r"gpus\n.*greater than or equal to 0"),
        ({"nodes": 0}, r"nodes\n.*greater than or equal to 1"),
        ({"cpus_per_gpu": 0}, r"cpus_per_gpu\n.*greater than or equal to 1"),
        ({"memory_gb": 0}, r"memory_gb\n.*greater than or equal to 1"),
        ({"requeues": -1}, r"requeues\n.*greater than or equal to 0"),
        ({"colour": "red"}, r"colour\n.*not permitted"),
        ({"hours": 0.1}, r"hours above 0.1 \(the last 180 s are for the checkpoint\), found 0.1"),
        ({"hours": float("nan")}, r"hours\n.*finite"),
        ({"hours": -4.0}, "hours above"),
    ],
)
def test_slurm_refuses_numbers_out_of_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        Slurm(**{**ASKED, **wrong})


def test_submit_looks_at_everything_before_it_asks_slurm(toy_store, toy_recipe, tmp_path):
    arguments = {"slurm": SLURM, "data": toy_store.path, "run": tmp_path / "r"}
    with pytest.raises(ValueError, match="unknown recipe 'toy'"):
        submit("toy", **arguments)
    with pytest.raises(ValueError, match=r"is for nw-ucla, but .* holds toy"):
        submit("nw-ucla-joint", **arguments)
    with pytest.raises(FileNotFoundError, match="no store at"):
        submit(toy_recipe, **{**arguments, "data": tmp_path / "gone.arrow"})
    with pytest.raises(FileExistsError, match="go on with --resume"):
        submit(toy_recipe, **{**arguments, "run": tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_submit_names_the_extra_to_install(toy_store, toy_recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError, match=r"pip install msg3d-lab\[cluster\]"):
        submit(toy_recipe, slurm=SLURM, data=toy_store.path, run=tmp_path / "r")


def test_submit_says_when_there_is_no_slurm(toy_store, toy_recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="no sbatch and no srun on the PATH"):
        submit(toy_recipe, slurm=SLURM, data=toy_store.path, run=tmp_path / "r")


def test_submit_hands_a_job_to_submitit(toy_store, toy_recipe, tmp_path, monkeypatch, programs):
    """With a stand-in for submitit: what it is told. The real one's script is tested below."""
    seen = {}

    class Executor:
        def __init__(self, folder, max_num_timeout):
            seen.update(folder=folder, max_num_timeout=max_num_timeout)

        def update_parameters(self, **options):
            seen.update(options=options)

        def submit(self, job):
            seen.update(job=pickle.loads(pickle.dumps(job)))
            return SimpleNamespace(job_id="7")

    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(SlurmExecutor=Executor))
    monkeypatch.chdir(tmp_path)
    slurm = Slurm(**ASKED, nodes=2)
    job = submit(toy_recipe, slurm=slurm, data=toy_store.path, precision="bf16-mixed")
    assert job.job_id == "7"
    assert seen["folder"] == tmp_path / "runs" / "toy-joint.slurm"
    assert seen["max_num_timeout"] == 20
    assert seen["options"] == slurm.sbatch_options("toy-joint")
    assert seen["job"] == TrainingJob(
        toy_recipe,
        tmp_path / "runs" / "toy-joint",
        {
            "data": str(toy_store.path),
            "device": "cuda",
            "devices": 8,
            "num_nodes": 2,
            "precision": "bf16-mixed",
            "progress": False,
        },
    )


def test_training_job_trains_here_as_on_the_cluster(toy_store, toy_recipe, tmp_path, monkeypatch):
    recipe = recipes.with_settings(toy_recipe, ["epochs=1"])
    arguments = {"data": str(toy_store.path), "device": "cpu", "devices": 1, "num_nodes": 1}
    job = TrainingJob(recipe, tmp_path / "run", arguments)
    before = signal.getsignal(WARNING)
    assert job() == str(tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert signal.getsignal(WARNING) is before
    with pytest.raises(FileExistsError):
        job()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")  # Slurm started it again after a failure
    assert job() == str(tmp_path / "run")


class Submitit:
    """What submitit does around a job: it answers the warning, and lets SIGTERM pass."""

    def __init__(self, rank):
        self.rank, self.requeued = rank, 0

    def __enter__(self):
        self.old = signal.signal(WARNING, self.requeue), signal.signal(signal.SIGTERM, self.bypass)
        return self

    def __exit__(self, *exception):
        signal.signal(WARNING, self.old[0])
        signal.signal(signal.SIGTERM, self.old[1])

    def requeue(self, number, frame):
        if self.rank == 0:
            self.requeued += 1
            sys.exit(-1)

    def bypass(self, number, frame):
        pass


def _fake_fit(monkeypatch, *signals, early=False):
    """A fit that gets signals, listens to SIGTERM as the real one does, and says what it saved."""
    saved = []

    def fit(recipe, *, resume, **arguments):
        if early:
            os.kill(os.getpid(), WARNING)
        stopped = []
        before = signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
        try:
            for number in signals:
                os.kill(os.getpid(), number)
        finally:
            signal.signal(signal.SIGTERM, before)
        saved.append(resume)
        if stopped:
            raise Requeue("stopped")
        return SimpleNamespace(path="done")

    monkeypatch.setattr(cluster, "fit", fit)
    return saved


def test_training_job_saves_before_it_is_requeued(toy_recipe, tmp_path, monkeypatch):
    saved = _fake_fit(monkeypatch, WARNING)
    with Submitit(rank=0) as submitit, pytest.raises(SystemExit) as stop:
        TrainingJob(toy_recipe, tmp_path)()
    assert (submitit.requeued, saved, stop.value.code) == (1, [False], -1)


def test_training_job_of_another_process_waits_for_the_first(toy_recipe, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    saved = _fake_fit(monkeypatch, WARNING)
    with Submitit(rank=3) as submitit, pytest.raises(SystemExit) as stop:
        TrainingJob(toy_recipe, tmp_path)()
    assert (submitit.requeued, saved, stop.value.code) == (0, [False], 75)
    assert waited == [180]


def test_training_job_survives_a_preemption_with_both_signals(toy_recipe, tmp_path, monkeypatch):
    saved = _fake_fit(monkeypatch, signal.SIGTERM, WARNING)
    with Submitit(rank=0) as submitit, pytest.raises(SystemExit):
        TrainingJob(toy_recipe, tmp_path)()
    assert (submitit.requeued, saved) == (1, [False])


def test_training_job_that_is_cancelled_is_not_requeued(toy_recipe, tmp_path, monkeypatch):
    saved = _fake_fit(monkeypatch, signal.SIGTERM)
    with Submitit(rank=0) as submitit, pytest.raises(SystemExit) as stop:
        TrainingJob(toy_recipe, tmp_path)()
    assert (submitit.requeued, saved, stop.value.code) == (0, [False], 75)


def test_training_job_warned_before_it_trains_is_requeued_at_once(
    toy_recipe, tmp_path, monkeypatch
):
    saved = _fake_fit(monkeypatch, early=True)
    with Submitit(rank=0) as submitit, pytest.raises(SystemExit):
        TrainingJob(toy_recipe, tmp_path)()
    assert (submitit.requeued, saved) == (1, [])


def test_training_job_leaves_other_exits_alone(toy_recipe, tmp_path, monkeypatch):
    def fit(*recipe, **arguments):
        sys.exit(2)

    monkeypatch.setattr(cluster, "fit", fit)
    with Submitit(rank=0) as submitit, pytest.raises(SystemExit) as stop:
        TrainingJob(toy_recipe, tmp_path)()
    assert (submitit.requeued, stop.value.code) == (0, 2)


def test_a_real_training_that_is_warned_goes_on_where_it_stopped(
    toy_store, toy_recipe, tmp_path, monkeypatch
):
    """The real `fit`, warned in its second epoch, then started again: as if it had not been."""
    recipe = recipes.with_settings(toy_recipe, ["epochs=3"])
    arguments = {"data": str(toy_store.path), "device": "cpu", "devices": 1, "num_nodes": 1}
    job = TrainingJob(recipe, tmp_path / "run", arguments)
    steps = []

    def step(*words, **more):
        steps.append(1)
        if len(steps) == 6:  # of four in an epoch
            os.kill(os.getpid(), WARNING)
        return real(*words, **more)

    from msg3d_lab.training.progress import Progress

    real = Progress.step
    monkeypatch.setattr(Progress, "step", step)
    with Submitit(rank=0) as submitit, pytest.raises(SystemExit):
        job()
    assert submitit.requeued == 1
    assert not (tmp_path / "run" / "model.safetensors").exists()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    job()
    assert len(steps) == 12
    whole = run_fit(recipe, run=tmp_path / "whole", progress=False, **arguments)
    ours = whole.path.with_name("run") / "model.safetensors"
    assert ours.read_bytes() == whole.checkpoint.read_bytes()


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """sbatch, srun and scontrol on the PATH; sbatch keeps the script and answers as Slurm does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    kept = tmp_path / "kept.sh"
    for name, text in {
        "sbatch": f'cp "$1" {kept}; echo "Submitted batch job 4242"',
        "srun": "exit 1",
        "scontrol": "exit 0",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return kept


@pytest.fixture
def submitit():
    return pytest.importorskip(
        "submitit", reason="needs submitit: pip install msg3d-lab[cluster] (extra cluster)"
    )


def test_submit_writes_the_script_that_slurm_needs(
    toy_store, toy_recipe, tmp_path, submitit, programs
):
    job = submit(
        toy_recipe,
        slurm=Slurm(**ASKED, nodes=2, account="lab", memory_gb=100),
        data=toy_store.path,
        run=tmp_path / "runs" / "toy",
    )
    assert job.job_id == "4242"
    script = programs.read_text()
    for line in [
        "--job-name=toy-joint",
        "--partition=gpu",
        "--time=240",
        "--nodes=2",
        "--ntasks-per-node=8",
        "--gpus-per-node=8",
        "--cpus-per-task=4",
        "--mem=100GB",
        "--account=lab",
        "--signal=USR2@180",
        "--requeue",
        "--open-mode=append",
    ]:
        assert f"#SBATCH {line}\n" in script
    (command,) = [line for line in script.splitlines() if line.startswith("srun")]
    assert "--cpus-per-task=4" in command
    assert f"{sys.executable} -u -m submitit.core._submit" in command
    assert "--gpu-bind" not in script
    assert "--gpus-per-task" not in script
    assert str(tmp_path / "runs" / "toy.slurm") in script


def test_the_shell_submits_and_says_where_the_logs_are(
    toy_store, toy_recipe, tmp_path, submitit, programs, capsys
):
    recipes.save(toy_recipe, tmp_path / "toy.yaml")
    words = ["train", tmp_path / "toy.yaml", "--data", toy_store.path, "--run", tmp_path / "r"]
    main([*map(str, words), "--slurm", "partition=gpu,gpus=1,hours=0.5"])
    assert f"job 4242; script and logs in {tmp_path / 'r.slurm'}" in capsys.readouterr().out
    assert "#SBATCH --time=30\n" in programs.read_text()
    assert not (tmp_path / "r").exists()


def test_the_shell_submits_a_job_per_seed(
    toy_store, toy_recipe, tmp_path, submitit, capsys, request
):
    recipes.save(recipes.with_settings(toy_recipe, ["epochs=1"]), tmp_path / "toy.yaml")
    words = ["train", tmp_path / "toy.yaml", "--data", toy_store.path, "--run", tmp_path / "r"]
    words = [*map(str, words), "--seeds", "1", "5", "6"]
    # A seed that is finished needs no job.
    one = recipes.with_settings(toy_recipe, ["epochs=1", "seed=5"])
    run_fit(one, data=toy_store, run=tmp_path / "r/seed-5", device="cpu", progress=False)
    programs = request.getfixturevalue("programs")  # now: Fabric warns where there is an srun
    main([*words, "--tensorboard", "--slurm", "partition=gpu,gpus=1,hours=0.5"])
    shown = capsys.readouterr().out.splitlines()
    assert [line.partition(";")[0] for line in shown[:-1]] == [
        "Submitted: seed 1, job 4242",
        "Submitted: seed 6, job 4242",
    ]
    assert (
        shown[-1] == "When they are finished, the same command without --slurm shows mean and sd."
    )
    assert "#SBATCH --job-name=toy-joint-seed-6\n" in programs.read_text()
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == [
        "seed-1.slurm",
        "seed-5",
        "seed-6.slurm",
    ]
    [pickled] = (tmp_path / "r/seed-6.slurm").glob("*.pkl")
    job = submitit.core.utils.DelayedSubmission.load(pickled).function
    assert job.recipe.training.seed == 6
    assert (job.run, job.resume) == (tmp_path / "r/seed-6", True)
    assert isinstance(job.arguments["callbacks"][0], TensorBoard)


def test_submit_seeds_refuses_the_folder_of_a_single_run(toy_store, toy_recipe, tmp_path):
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(FileExistsError, match="is the folder of a single run"):
        submit_seeds(toy_recipe, runs=tmp_path, data=toy_store.path, slurm=SLURM)


def test_the_shell_says_what_is_wrong_with_a_request(capsys):
    with pytest.raises(SystemExit):
        main(["train", "synthetic-joint", "--slurm", "partition=gpu,gpu=1,hours=1"])
    assert capsys.readouterr().err == "msg3d-lab: --slurm has no 'gpu': did you mean gpus?\n"


def test_training_job_is_pickled_and_requeued_by_submitit(
    toy_store, toy_recipe, tmp_path, submitit, programs
):
    job = submit(toy_recipe, slurm=SLURM, data=toy_store.path, run=tmp_path / "runs" / "toy")
    delayed = submitit.core.utils.DelayedSubmission.load(job.paths.submitted_pickle)
    assert isinstance(delayed.function, TrainingJob)
    assert delayed.function.recipe == toy_recipe
    again = delayed._checkpoint_function()
    assert again.function == TrainingJob(
        toy_recipe, delayed.function.run, delayed.function.arguments, resume=True
    )


def test_the_warning_is_submitits(submitit):
    assert submitit.core.job_environment.JobEnvironment._usr_sig() == WARNING
