"""What a measuring process holds, and can be told to do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from harness.machine import gemm_peak, machine_facts
from harness.memory import process_peak, tensor_memory
from harness.timing import Sample, clocked
from harness.workloads import (
    Case,
    Precision,
    Side,
    arithmetic,
    clips_for,
    difference,
    make_side,
    make_work,
)
from msg3d_lab.graph import scale_adjacencies, window_graph
from msg3d_lab.model import G3D, MSG3D
from msg3d_lab.model.upstream import adjacencies

__all__ = ["Held"]


class Held:
    """Networks and batches; every method's arguments and answers can be sent between processes.

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
        """Of the machine, as this process sees it."""
        return machine_facts(device=self.device)

    def peak(self, precision: Precision, seconds: float) -> float:
        """FLOP per second of large products."""
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        return gemm_peak(dtype=dtype, device=self.device, seconds=seconds)

    def differences(self, sides: tuple[Side, ...]) -> dict[str, float]:
        """The sides' logits in evaluation against the model's own, in float64 and float32."""
        case = Case("eval", 2, one_person=0.5)
        [x, *_] = clips_for(case, clip_len=self.clip_len, model=self.model, device=self.device)[0]
        found = {}
        for dtype in (torch.float64, torch.float32):
            model = MSG3D(**self.model.arguments).to(self.device, dtype).eval()
            model.load_state_dict(self.model.state_dict())
            _refine_graphs(model)
            made = {side: make_side(side, model, training=False) for side in sides}
            for side, value in difference(model, made, x.to(dtype)).items():
                found[f"{side}, {str(dtype).removeprefix('torch.')}"] = value
        return found

    def prepare(self, case: Case, side: Side, precision: Precision) -> int:
        """Build a side and run it once; the FLOP of its products, as executed.

        Those of convolutions, matrix and batched matrix products count, two per multiplication.
        """
        network = make_side(side, self.model, training=case.kind == "train")
        batches = clips_for(case, clip_len=self.clip_len, model=self.model, device=self.device)
        work = make_work(case, network, batches, precision=precision)
        self.works[f"{side} {precision}"] = work
        if side == "compiled":
            work()
            return 0  # its products are out of the counter's sight
        with FlopCounterMode(display=False) as counter:
            if case.kind == "train":
                work()
            else:  # the counter and autocast do not go together in inference mode
                with torch.no_grad(), arithmetic(precision, device=self.device):
                    for x, _ in batches:
                        network(x)
        return counter.get_total_flops()

    def run(self, side: Side, precision: Precision) -> Sample:
        """Run what was prepared."""
        return clocked(self.works[f"{side} {precision}"])

    def forget(self) -> None:
        """Let go of all that was prepared."""
        self.works.clear()

    def tensors(self, case: Case, side: Side, precision: Precision) -> dict[str, int]:
        """Bytes of tensors: kept for backward after the forward pass, most in the whole run."""
        training = case.kind == "train"
        network = make_side(side, self.model, training=training)
        batches = clips_for(case, clip_len=self.clip_len, model=self.model, device=self.device)
        work = make_work(case, network, batches, precision=precision)
        work()  # so that gradients and momenta are there
        found = {"peak": tensor_memory(work).peak}
        if training:
            x, labels = batches[0]

            def forward() -> torch.Tensor:
                with arithmetic(precision, device=self.device):
                    return F.cross_entropy(network(x), labels)

            found["kept"] = tensor_memory(forward).kept
        return found

    def process(self, case: Case, side: Side, precision: Precision) -> int | None:
        """Bytes by which this process grows in a run; ask a fresh one."""
        network = make_side(side, self.model, training=case.kind == "train")
        small = Case(case.kind, 2, one_person=0.5)
        options: dict[str, Any] = {"model": self.model, "device": self.device}
        # Libraries load and compile what they need.
        make_work(small, network, clips_for(small, clip_len=4, **options), precision=precision)()
        batches = clips_for(case, clip_len=self.clip_len, **options)
        return process_peak(make_work(case, network, batches, precision=precision))


def _refine_graphs(model: MSG3D) -> None:
    """Compute the graphs anew in the network's precision; built, they are rounded to float32."""
    a = model.arguments
    kinds: dict[str, Any] = {key: a[key] for key in ("aggregation", "normalization")}
    for _, _, layer in adjacencies(model, prefix=""):
        graph, scales = model.skeleton.adjacency, a["num_gcn_scales"]
        if isinstance(layer, G3D):
            graph = window_graph(graph, layer.window_size, edges=a["window_edges"])
            scales = a["num_g3d_scales"]
        exact = torch.from_numpy(scale_adjacencies(graph, scales, **kinds))
        layer.adjacency.A = exact.to(layer.adjacency.A)
