"""A process for measuring, with its own allocator and number of threads."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Literal
from unittest import mock

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from harness.machine import machine_facts, matmul_rate
from harness.memory import peak_memory, tensor_memory
from harness.timing import Sample, time_once
from harness.workloads import (
    Case,
    Form,
    Precision,
    in_precision,
    make_clips,
    make_form,
    make_work,
)
from msg3d_lab.allocator import tune_allocator
from msg3d_lab.model import MSG3D

Allocator = Literal["tuned", "default"]
# PyTorch's profiler, which counts the memory, logs otherwise.
_ENVIRONMENT = {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}


class Worker:
    """A fresh process that runs `Measurements`; use it as a context manager.

    Args:
        allocator: "tuned" as `tune_allocator` does, or the C library's "default".
        threads: of the arithmetic.
        device: "cpu" or "cuda".
        network: arguments of `MSG3D`.
        clip_len: frames of every clip.
    """

    def __init__(
        self,
        *,
        allocator: Allocator,
        threads: int,
        device: str,
        network: Mapping[str, Any],
        clip_len: int,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        setup = {"device": device, "network": dict(network), "clip_len": clip_len}
        self._process = context.Process(
            target=_serve, args=(theirs, allocator, threads, setup), daemon=True
        )
        with mock.patch.dict(os.environ, _ENVIRONMENT):
            self._process.start()
        theirs.close()

    def call(self, name: str, **options: Any) -> Any:
        """Call a method of `Measurements` in the process and wait for its result.

        Raises:
            RuntimeError: the call failed; the message has its traceback.
            ChildProcessError: the process was killed.
        """
        try:
            self._pipe.send((name, options))
            done, answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            raise ChildProcessError(
                f"the measuring process ended with exit code {self._process.exitcode} (-9: killed, "
                "most often because memory ran out): try --quick, or close other programs"
            ) from None
        if not done:
            raise RuntimeError(f"the measuring process failed:\n{answer}")
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, allocator: Allocator, threads: int, setup: Mapping[str, Any]) -> None:
    if allocator == "tuned":
        tune_allocator()
    torch.set_num_threads(threads)
    measurements = Measurements(**setup)
    while True:
        try:
            name, options = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(measurements, name)(**options)))
        except Exception:
            pipe.send((False, traceback.format_exc()))


class Measurements:
    """Networks and batches, and what can be measured; arguments and results can be pickled.

    Args:
        device: "cpu" or "cuda".
        network: arguments of `MSG3D`.
        clip_len: frames of every clip.
    """

    def __init__(self, *, device: str, network: Mapping[str, Any], clip_len: int) -> None:
        torch.manual_seed(0)
        self.device, self.clip_len = device, clip_len
        self.model = MSG3D(**network).to(device).eval()
        self.works: dict[str, Callable[[], object]] = {}

    def facts(self) -> dict[str, Any]:
        """Return facts about the machine, as this process sees it."""
        return machine_facts(device=self.device)

    def matmul_rate(self, precision: Precision, seconds: float) -> float:
        """Measure the FLOP per second of large products."""
        in_precision(precision, device=self.device)  # switches TF32
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        return matmul_rate(dtype=dtype, device=self.device, seconds=seconds)

    def differences(self, forms: tuple[Form, ...]) -> dict[str, float]:
        """Compare the forms' logits in evaluation with the model's own, in float32.

        The tests of the model compare them in float64.
        """
        x, _ = self._clips(Case("eval", 2, one_person=0.5))[0]
        with torch.inference_mode():
            own = self.model(x)
            logits = {form: make_form(form, self.model, training=False)(x) for form in forms}
        return {form: ((y - own).norm() / own.norm()).item() for form, y in logits.items()}

    def prepare(self, case: Case, form: Form, precision: Precision) -> int:
        """Build a form and run it once; return the FLOP of its products, as executed.

        Convolutions, matrix and batched matrix products count, two FLOP per multiplication; 0 for
        the compiled form, whose products the counter does not see.
        """
        network = make_form(form, self.model, training=case.kind == "train")
        batches = self._clips(case)
        work = make_work(case, network, batches, precision=precision)
        self.works[f"{form} {precision}"] = work
        if form == "compiled":
            work()
            return 0
        with FlopCounterMode(display=False) as counter:
            if case.kind == "train":
                work()
            else:  # the counter and autocast do not work together in inference mode
                with torch.no_grad(), in_precision(precision, device=self.device):
                    for x, _ in batches:
                        network(x)
        return counter.get_total_flops()

    def run(self, form: Form, precision: Precision) -> Sample:
        """Time what was prepared."""
        return time_once(self.works[f"{form} {precision}"])

    def tensors(self, case: Case, form: Form, precision: Precision) -> dict[str, int]:
        """Count bytes of tensors: `peak` of the whole run, in training also `kept` for backward."""
        training = case.kind == "train"
        network = make_form(form, self.model, training=training)
        batches = self._clips(case)
        work = make_work(case, network, batches, precision=precision)
        work()  # so that gradients and momenta exist
        found = {"peak": tensor_memory(work).peak}
        if training:
            x, labels = batches[0]

            def forward() -> torch.Tensor:
                with in_precision(precision, device=self.device):
                    return F.cross_entropy(network(x), labels)

            found["kept"] = tensor_memory(forward).kept
        return found

    def process(self, case: Case, form: Form, precision: Precision) -> int | None:
        """Return the bytes by which this process grows in a run; for a fresh process."""
        network = make_form(form, self.model, training=case.kind == "train")
        small = Case(case.kind, 2, one_person=0.5)
        # Libraries load and compile what they need.
        make_work(small, network, self._clips(small, clip_len=4), precision=precision)()
        return peak_memory(make_work(case, network, self._clips(case), precision=precision))

    def _clips(
        self, case: Case, *, clip_len: int | None = None
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        length = clip_len or self.clip_len
        return make_clips(case, clip_len=length, model=self.model, device=self.device)
