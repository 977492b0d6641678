"""The reference: a plain implementation of MS-G3D, step by step as in the paper.

The tests compare the library's network with it, and the benchmarks measure against it. It has the
steps of the published implementations (kenziyuliu/MS-G3D, mmaction2, pyskl): channels first, einsum
over the neighbourhoods, windows unfolded into copies, every temporal branch on its own; in place
where theirs are, without the sums with zero and the second ReLU in their G3D. It computes from a
state dict in the author's names, so the table of names is tested as well. Graphs are computed from
matrix powers of A + I, not from hop distances.
"""

import numpy as np
import torch
import torch.nn.functional as F

from msg3d_lab.model import upstream


def k_adjacencies(A, num_scales, *, normalization, aggregation):
    """(K, V, V): receiver first."""
    I = np.eye(len(A))  # noqa: E741
    scales = []
    for k in range(num_scales):
        if aggregation == "powers":
            walk = normalized(np.minimum(A + I, 1), normalization)
            scales.append(np.linalg.matrix_power(walk, k))
            continue
        reach = np.minimum(np.linalg.matrix_power(A + I, k), 1)
        closer = np.minimum(np.linalg.matrix_power(A + I, k - 1), 1) if k else np.zeros_like(A)
        exact = reach - closer
        scales.append(normalized(exact + (I if k else 0), normalization))
    return np.stack(scales)


def normalized(A, normalization):
    degree = A.sum(0)
    if normalization == "symmetric":
        return A / np.sqrt(np.outer(degree, degree))
    return (A / degree).T


def window_adjacency(A, size, edges):
    V = len(A)
    big = np.zeros((size, V, size, V))
    for s in range(size):
        for t in range(size):
            if edges == "dense":
                big[s, :, t] = A + np.eye(V)
            elif s == t:
                big[s, :, t] = A
            elif abs(s - t) == 1:
                big[s, :, t] = np.eye(V)
    big = big.reshape(size * V, size * V)
    np.fill_diagonal(big, 0)
    return big


class ReferenceMSG3D:
    """`ReferenceMSG3D(state, A, ...)(x)` with x (N, M, T, V, C) gives the logits."""

    def __init__(
        self,
        state,
        A,
        *,
        normalization="symmetric",
        aggregation="disentangled",
        num_gcn_scales,
        num_g3d_scales,
        window_sizes=(3, 5),
        window_dilations=(1, 1),
        window_edges="dense",
        tcn_dilations=(1, 2, 3, 4),
        pathways=("factorized", "g3d"),
        training=False,
    ):
        self.state, self.training = state, training
        kinds = {"normalization": normalization, "aggregation": aggregation}
        like = state["fc.weight"]
        self.A = torch.from_numpy(k_adjacencies(A, num_gcn_scales, **kinds)).to(like)
        self.A_window = [
            torch.from_numpy(
                k_adjacencies(window_adjacency(A, size, window_edges), num_g3d_scales, **kinds)
            ).to(like)
            for size in window_sizes
        ]
        self.windows = list(zip(window_sizes, window_dilations, strict=True))
        self.tcn_dilations, self.pathways = tcn_dilations, pathways

    @classmethod
    def from_model(cls, model, *, training=False):
        """Build the reference with copies of a model's weights, which require gradients."""
        state = {}
        own = model.state_dict()
        for rule in upstream.rules(model, dialect="author", head="fc"):
            for name, tensor in zip(rule.theirs, rule.write(own[rule.own]), strict=True):
                learnt = tensor.is_floating_point() and "running" not in name
                state[name] = tensor.detach().clone().requires_grad_(learnt)
        names = ("normalization", "aggregation", "num_gcn_scales", "num_g3d_scales", "window_sizes")
        names += ("window_dilations", "window_edges", "tcn_dilations", "pathways")
        options = {name: model.arguments[name] for name in names}
        return cls(state, model.skeleton.adjacency, training=training, **options)

    def parameters(self):
        return [tensor for tensor in self.state.values() if tensor.requires_grad]

    def __call__(self, x):
        N, M, T, V, C = x.shape
        x = x.permute(0, 1, 3, 4, 2).reshape(N, M * V * C, T)
        x = self.bn("data_bn", x).view(N * M, V, C, T).permute(0, 2, 3, 1).contiguous()
        for i, stride in ((1, 1), (2, 2), (3, 2)):
            total = 0
            if "factorized" in self.pathways:
                y = self.gcn(f"sgcn{i}.0", x, self.A)
                y = self.tcn(f"sgcn{i}.1", y, stride)
                total = total + self.tcn(f"sgcn{i}.2", y, 1, activation=False)
            if "g3d" in self.pathways:
                for j, (size, dilation) in enumerate(self.windows):
                    name = f"gcn3d{i}.gcn3d.{j}"
                    total = total + self.g3d(name, x, self.A_window[j], size, dilation, stride)
            x = self.tcn(f"tcn{i}", F.relu(total, inplace=True), 1)
        x = x.mean((2, 3)).view(N, M, -1).mean(1)
        return F.linear(x, self.state["fc.weight"], self.state["fc.bias"])

    def bn(self, name, x):
        s = self.state
        mean, var = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        weight, bias = s[f"{name}.weight"], s[f"{name}.bias"]
        return F.batch_norm(x, mean, var, weight, bias, training=self.training)

    def conv(self, name, x, **options):
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], **options)

    def gcn(self, name, x, A):
        N, _, T, V = x.shape
        if f"{name}.A_res" in self.state:
            A = A + self.state[f"{name}.A_res"].view_as(A)
        support = torch.einsum("kvu,nctu->nkctv", A, x).reshape(N, -1, T, V)
        return F.relu(self.bn(f"{name}.mlp.layers.1", self.conv(f"{name}.mlp.layers.0", support)))

    def g3d(self, name, x, A, size, dilation, stride):
        N, C, _, V = x.shape
        pad = dilation * (size - 1) // 2
        x = F.unfold(x, (size, 1), dilation=(dilation, 1), stride=(stride, 1), padding=(pad, 0))
        x = x.view(N, C, size, -1, V).transpose(2, 3).reshape(N, C, -1, size * V)
        y = self.gcn(f"{name}.gcn3d.1", x, A)
        y = y.view(N, y.shape[1], -1, size, V)
        weight, bias = (self.state[f"{name}.out_conv.{p}"] for p in ("weight", "bias"))
        return self.bn(f"{name}.out_bn", F.conv3d(y, weight, bias)[:, :, :, 0])

    def tcn(self, name, x, stride, activation=True):
        branches = []
        count = len(self.tcn_dilations)
        for b in range(count + 1):
            h = F.relu(self.bn(f"{name}.branches.{b}.1", self.conv(f"{name}.branches.{b}.0", x)))
            if b < count:
                d = self.tcn_dilations[b]
                options = {"padding": (d, 0), "stride": (stride, 1), "dilation": (d, 1)}
                h = self.conv(f"{name}.branches.{b}.3.conv", h, **options)
                h = self.bn(f"{name}.branches.{b}.3.bn", h)
            else:
                h = F.max_pool2d(h, (3, 1), stride=(stride, 1), padding=(1, 0))
                h = self.bn(f"{name}.branches.{b}.4", h)
            branches.append(h)
        last = f"{name}.branches.{count + 1}"
        branches.append(self.bn(f"{last}.1", self.conv(f"{last}.0", x, stride=(stride, 1))))
        y = torch.cat(branches, 1)
        if f"{name}.residual.conv.weight" in self.state:
            short = self.conv(f"{name}.residual.conv", x, stride=(stride, 1))
            y += self.bn(f"{name}.residual.bn", short)
        else:
            y += x
        return F.relu(y) if activation else y
