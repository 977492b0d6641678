import dataclasses
import json
import logging
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from msg3d_lab import MSG3D, load_model, save_model, skeletons
from msg3d_lab.model import checkpoints, convert, upstream

SMALL = {"num_classes": 4, "base_channels": 6, "num_gcn_scales": 3, "num_g3d_scales": 2}
OPENMMLAB = {"edge_set": "star", "normalization": "column"}
GOLDEN = Path(__file__).parents[1] / "goldens" / "model_forward.json"


def golden_fill(name, shape, kind):
    """The rule the golden files are made by: a generator seeded with the tensor's name."""
    r = np.random.default_rng(zlib.crc32(name.encode()))
    return {
        "w": lambda: r.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:])),
        "gamma": lambda: r.uniform(0.7, 1.3, shape),
        "var": lambda: r.uniform(0.75, 1.25, shape),
        "small": lambda: 0.1 * r.standard_normal(shape),
        "mask": lambda: 0.02 * r.standard_normal(shape),
    }[kind]()


def golden_kind(name, tensor):
    if name.endswith(("num_batches_tracked", ".A")):
        return None
    if name.endswith(("A_res", "PA")):
        return "mask"
    if name.endswith("running_var"):
        return "var"
    if name.endswith("weight"):
        return "w" if tensor.ndim > 1 else "gamma"
    return "small"


def golden_graph(A):
    """Symmetric k-adjacencies in the float32 rounding of the computer that made the golden.

    NumPy's power differs between processors in the last digit: there for degrees of 6 and 7.
    """
    edges = (A != 0).numpy().astype(np.float32)
    degree = edges.sum(axis=1)
    root = (degree.astype(np.float64) ** -0.5).astype(np.float32)
    root = np.where(degree == 6, np.nextafter(root, np.float32(0)), root)
    root = np.where(degree == 7, np.nextafter(root, np.float32(1)), root)
    return torch.from_numpy(root[:, :, None] * edges * root[:, None, :]).to(A)


def golden_logits(case, tmp_path, kinds=None):
    """Write the golden's checkpoint in its own format, load it, run it in float64."""
    original = case["tag"].startswith("original")
    model = MSG3D(num_classes=60, **({} if original else OPENMMLAB))
    save_model(model, tmp_path / "empty.safetensors")
    convert(
        tmp_path / "empty.safetensors",
        tmp_path / "empty.pth",
        to="author" if original else "mmaction2",
    )
    content = torch.load(tmp_path / "empty.pth", weights_only=True)
    state = content.get("state_dict", content)
    kinds = kinds or {name: golden_kind(name, tensor) for name, tensor in state.items()}
    assert kinds.keys() == state.keys()
    for name, kind in kinds.items():
        if kind:
            state[name] = torch.from_numpy(golden_fill(name, tuple(state[name].shape), kind))
    torch.save(content, tmp_path / "golden.pth")
    loaded = load_model(tmp_path / "golden.pth").double()
    # load_model rounds weights to float32; the golden was computed in float64 throughout.
    dialect, head = upstream.recognise(state)
    own = {
        r.own: r.read([state[n] for n in r.theirs])
        for r in upstream.rules(loaded, dialect=dialect, head=head)
    }
    loaded.load_state_dict(own)
    x = np.random.default_rng(case["input_seed"]).standard_normal(case["input_shape"])
    if original:
        for _, _, layer in upstream.adjacencies(loaded, prefix=""):
            layer.adjacency.A = golden_graph(layer.adjacency.A)
        x = np.ascontiguousarray(x.transpose(0, 4, 2, 3, 1))  # from (N, C, T, V, M)
    with torch.no_grad():
        return loaded(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("tag", ["mmaction2_ntu25", "original_ntu25"])
def test_load_model_gives_the_published_implementations_logits(tag, tmp_path):
    case = json.loads(GOLDEN.read_text())[tag]
    np.testing.assert_allclose(golden_logits(case, tmp_path), case["logits"], rtol=0, atol=1e-9)


@pytest.mark.shared
@pytest.mark.parametrize("tag", ["mmaction2_ntu25", "original_ntu25"])
def test_load_model_agrees_with_the_reference_files(tag, tmp_path, shared_dir):
    case = json.loads((shared_dir / "golden" / "model_forward.json").read_text())[tag]
    kinds = {name: kind for name, _, kind in case["state"]}
    logits = golden_logits(case, tmp_path, kinds)
    np.testing.assert_allclose(logits, case["logits"], rtol=0, atol=1e-9)


def own_checkpoint(tmp_path, name="own.safetensors", **arguments):
    model = MSG3D(**{**SMALL, **arguments})
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor))
        else:
            tensor.fill_(7)
    save_model(model, tmp_path / name, notes={"label_names": ["a", "b"]})
    return model.eval(), tmp_path / name


def assert_same_model(one, other):
    assert one.arguments == other.arguments
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert torch.equal(mine[name], theirs[name]), name


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {**OPENMMLAB, "window_edges": "grid", "aggregation": "powers", "num_persons": 1},
        {
            "skeleton": "coco17",
            "pathways": ("g3d",),
            "window_sizes": (5,),
            "window_dilations": (2,),
        },
        {"skeleton": "nw-ucla20", "residual_mask": False, "dropout": 0.3, "tcn_dilations": (1, 2)},
    ],
)
def test_save_model_keeps_everything(arguments, tmp_path):
    model, path = own_checkpoint(tmp_path, **arguments)
    loaded = load_model(path)
    assert_same_model(model, loaded)
    assert not loaded.training
    assert checkpoints.read_notes(path) == {"label_names": ["a", "b"]}


def test_save_model_writes_a_file_that_others_may_read(tmp_path):
    _, path = own_checkpoint(tmp_path)
    (tmp_path / "any").touch()
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_save_model_keeps_a_layout_of_ones_own(tmp_path, toy_skeleton):
    _, path = own_checkpoint(tmp_path, skeleton=toy_skeleton)
    assert load_model(path).skeleton == toy_skeleton


@pytest.mark.parametrize(
    ("to", "arguments"),
    [
        ("author", {}),
        ("author", {"skeleton": "openpose18", "num_persons": 1, "window_sizes": (3, 7)}),
        ("mmaction2", OPENMMLAB),
        ("mmaction2", {"skeleton": "coco17", "normalization": "column"}),
        ("mmaction2", {"window_edges": "grid", "num_g3d_scales": 4}),
        ("mmaction2", {**OPENMMLAB, "aggregation": "powers"}),
    ],
)
def test_convert_round_trips_are_exact(to, arguments, tmp_path):
    model, path = own_checkpoint(tmp_path, **arguments)
    convert(path, tmp_path / "theirs.pth", to=to)
    convert(tmp_path / "theirs.pth", tmp_path / "back.safetensors")
    assert_same_model(model, load_model(tmp_path / "back.safetensors"))
    convert(tmp_path / "back.safetensors", tmp_path / "again.pth", to=to)
    first, again = (torch.load(tmp_path / f) for f in ("theirs.pth", "again.pth"))
    first, again = first.get("state_dict", first), again.get("state_dict", again)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_load_model_reads_pyskl_and_wrapped_files(tmp_path):
    model, path = own_checkpoint(tmp_path, **OPENMMLAB)
    convert(path, tmp_path / "mm.pth", to="mmaction2")
    state = torch.load(tmp_path / "mm.pth")["state_dict"]
    renamed = {f"module.{n.replace('cls_head.fc', 'cls_head.fc_cls')}": t for n, t in state.items()}
    history = np.arange(3.0)
    content = {
        "state_dict": renamed,
        "meta": {"epoch": 16, "loss": np.float64(0.1), "log": history},
    }
    torch.save(content, tmp_path / "pyskl.pth", _use_new_zipfile_serialization=False)
    assert_same_model(model, load_model(tmp_path / "pyskl.pth"))


def test_load_model_ignores_mmengine_training_logs(tmp_path, monkeypatch):
    """Unpublished mmengine checkpoints carry log objects; they are skipped, not executed."""
    import sys
    import types

    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self):
            self._log = np.arange(4.0)

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    model, path = own_checkpoint(tmp_path, **OPENMMLAB)
    convert(path, tmp_path / "mm.pth", to="mmaction2")
    content = torch.load(tmp_path / "mm.pth")
    content["message_hub"] = {"log": HistoryBuffer()}
    torch.save(content, tmp_path / "epoch_16.pth")
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    assert_same_model(model, load_model(tmp_path / "epoch_16.pth"))


WRAPPINGS = {
    "plain": (lambda s: s, None),
    "openmmlab": (lambda s: {"state_dict": s, "meta": {}}, None),
    "DataParallel": (lambda s: {f"module.{k}": v for k, v in s.items()}, "the prefix module."),
    "twice": (
        lambda s: {f"module.module.{k}": v for k, v in s.items()},
        "without the prefix module.module.",
    ),
    "model_state_dict": (
        lambda s: {"epoch": 3, "model_state_dict": s, "optimizer_state_dict": {"state": {}}},
        "under model_state_dict",
    ),
    "model": (lambda s: {"epoch": 3, "model": s}, "under model"),
    "weights": (lambda s: {"weights": s, "args": {"lr": 0.1, "a": np.ones(3)}}, "under weights"),
    "lightning": (
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 1},
        "under state_dict, without the prefix model.",
    ),
    "half": (lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()}, None),
    "double": (
        lambda s: {k: v.double() if v.is_floating_point() else v for k, v in s.items()},
        None,
    ),
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_load_model_unwraps_what_training_code_wraps_and_says_so(name, tmp_path, caplog):
    wrap, said = WRAPPINGS[name]
    model, path = own_checkpoint(tmp_path)
    convert(path, tmp_path / "author.pt", to="author")
    torch.save(wrap(torch.load(tmp_path / "author.pt")), tmp_path / "wrapped.pt")
    with caplog.at_level(logging.WARNING):
        found = load_model(tmp_path / "wrapped.pt")
    if name == "half":
        model = model.half().float()
    assert_same_model(model, found)
    assert len(caplog.records) == (said is not None)
    assert said is None or said in caplog.text


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("to", ["lab", "author", "mmaction2"])
def test_load_model_refuses_weights_that_are_no_numbers(value, to, tmp_path):
    model, path = own_checkpoint(tmp_path, **({} if to == "author" else OPENMMLAB))
    model.data_bn.running_var[0] = value
    save_model(model, path, overwrite=True)
    if to == "lab":
        with pytest.raises(ValueError, match=r"1 tensors hold NaN .*data_bn.running_var: 1 of 150"):
            load_model(path)
        return
    model.data_bn.running_var[0] = 1
    save_model(model, path, overwrite=True)
    convert(path, tmp_path / "theirs.pth", to=to)
    content = torch.load(tmp_path / "theirs.pth")
    state = content.get("state_dict", content)
    name = next(name for name in state if name.endswith("tcn1.branches.0.0.weight"))
    state[name].view(-1)[:2] = value
    torch.save(content, tmp_path / "theirs.pth")
    with pytest.raises(ValueError, match=rf"1 tensors hold NaN .*{name}: 2 of .* diverged"):
        load_model(tmp_path / "theirs.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"st_gcn_networks.0.gcn.conv.weight": torch.ones(1)}, r"another network \(ST-GCN\)"),
        ({"fc.weight": torch.ones(4, 3), "fc.bias": torch.ones(4)}, "another network, not of MS-G"),
        (
            {"epoch": 3, "net_g": {"fc.weight": torch.ones(1)}},
            "no tensors .* keys are epoch, net",
        ),
        ([torch.ones(1)], "expected a state dict, found list"),
        (torch.nn.Linear(2, 2), r"an object of type torch.nn.*Linear; .*save its state dict alone"),
    ],
)
def test_load_model_says_what_other_files_are(content, message, tmp_path):
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "file.pt")


def like_coco():
    """A layout of one's own that has as many joints as one of ours."""
    coco = skeletons.get("coco17")
    return dataclasses.replace(coco, name="mine", edges=((0, 16), *coco.edges[1:]))


def test_convert_keeps_the_notes_of_our_files(tmp_path):
    _, path = own_checkpoint(tmp_path)
    convert(path, tmp_path / "copy.safetensors")
    assert checkpoints.read_notes(tmp_path / "copy.safetensors") == checkpoints.read_notes(path)


def changed(tmp_path, to, change, **arguments):
    """A converted checkpoint after `change(state)`."""
    _, path = own_checkpoint(tmp_path, **arguments)
    convert(path, tmp_path / "theirs.pth", to=to)
    content = torch.load(tmp_path / "theirs.pth")
    change(content.get("state_dict", content))
    torch.save(content, tmp_path / "changed.pth")
    return tmp_path / "changed.pth"


@pytest.mark.parametrize(
    ("to", "change", "message"),
    [
        (
            "author",
            lambda s: s.pop("tcn2.branches.1.0.weight"),
            "1 tensors are missing .*tcn2.branches.1.0",
        ),
        ("author", lambda s: s.pop("sgcn1.0.A_res"), "sgcn1.0.A_res is missing"),
        ("author", lambda s: s.update(extra=torch.ones(1)), "1 are not MS-G3D's .extra"),
        (
            "author",
            lambda s: s.update({"fc.bias": torch.ones(9)}),
            r"fc.bias \(9,\) instead of \(4,\)",
        ),
        ("author", lambda s: s.pop("fc.weight"), "no classifier found"),
        ("mmaction2", lambda s: s.pop("backbone.sgcn2.0.A"), "backbone.sgcn2.0.A"),
        ("mmaction2", lambda s: s["backbone.A"].fill_(0), "is that of no layout we know"),
        ("mmaction2", lambda s: s["backbone.sgcn1.0.A"].mul_(2), "under any"),
        ("mmaction2", lambda s: s["backbone.sgcn3.0.A"].mul_(2), "1 adjacencies are not those"),
    ],
)
def test_load_model_lists_what_is_wrong(to, change, message, tmp_path):
    path = changed(tmp_path, to, change, **({} if to == "author" else OPENMMLAB))
    with pytest.raises(ValueError, match=message) as error:
        load_model(path)
    assert str(path) in str(error.value)


def test_load_model_knows_joint_counts_only_with_a_layout(tmp_path, toy_skeleton):
    model, path = own_checkpoint(tmp_path, skeleton=toy_skeleton)
    convert(path, tmp_path / "toy.pt", to="author")
    with pytest.raises(ValueError, match="graph has 5 joints, none of our layouts"):
        load_model(tmp_path / "toy.pt")
    assert_same_model(model, load_model(tmp_path / "toy.pt", skeleton=toy_skeleton))


def test_load_model_takes_what_a_published_file_does_not_tell(tmp_path):
    _, path = own_checkpoint(tmp_path)
    convert(path, tmp_path / "theirs.pt", to="author")
    assert load_model(tmp_path / "theirs.pt").arguments["window_dilations"] == (1, 1)
    told = load_model(tmp_path / "theirs.pt", window_dilations=(1, 2))
    assert told.arguments["window_dilations"] == (1, 2)
    with pytest.raises(ValueError, match="know their arguments"):
        load_model(path, window_dilations=(1, 2))


@pytest.mark.parametrize("missing", [True, False])
def test_load_model_checks_own_files(missing, tmp_path):
    _, path = own_checkpoint(tmp_path)
    record = checkpoints._read_record(path)
    state = load_file(path)
    if missing:
        state.pop("fc.bias")
    else:
        state["fc.bias"] = torch.zeros(2)
    save_file(state, path, metadata={"msg3d_lab": json.dumps(record)})
    expected = "missing .fc.bias" if missing else r"fc.bias \(2,\) instead of \(4,\)"
    with pytest.raises(ValueError, match=expected):
        load_model(path)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("new_format", [True, False])
def test_load_model_never_runs_code(new_format, tmp_path):
    torch.save(
        {"state_dict": {"fc.weight": torch.ones(1)}, "meta": Evil(tmp_path / "ran")},
        tmp_path / "evil.pth",
        _use_new_zipfile_serialization=new_format,
    )
    with pytest.raises(ValueError, match="the file was refused"):
        load_model(tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"refused|not a PyTorch checkpoint"):
        load_model(tmp_path / "plain.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
@pytest.mark.parametrize("to", ["lab", "author"])
def test_load_model_refuses_truncated_files(share, to, tmp_path):
    _, path = own_checkpoint(tmp_path)
    convert(path, tmp_path / "whole", to=to)
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="cannot load"):
        load_model(tmp_path / "cut")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04junk", bytes(100)])
def test_load_model_refuses_other_files(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match="cannot load"):
        load_model(tmp_path / "file")


def test_load_model_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint or run folder at"):
        load_model(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_model(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"did you mean pyskl/ntu60-xsub-3d-joint, "):
        load_model("pyskl/ntu60-xsub-3d-jont")


def test_load_model_refuses_safetensors_of_others(tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not one of MS-G3D Lab's"):
        load_model(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("to", "arguments", "message"),
    [
        ("author", OPENMMLAB, "normalization='symmetric'.*skeleton=ntu25 .chain."),
        ("author", {"window_edges": "grid"}, "window_edges='dense'"),
        ("mmaction2", {"pathways": ("g3d",)}, "pathways"),
        ("mmaction2", {"residual_mask": False}, "residual_mask=True"),
        ("mmaction2", {"window_dilations": (1, 2)}, r"window_dilations=\(1, 1\)"),
        ("author", {"tcn_dilations": (1, 4)}, r"tcn_dilations=\(1, 2\)"),
        ("author", {"window_sizes": (2, 3)}, r"window_sizes=\(3, 3\)"),
        ("author", {"skeleton": like_coco()}, r"skeleton=coco17, not skeleton=mine"),
    ],
)
def test_convert_refuses_what_the_other_side_cannot_express(to, arguments, message, tmp_path):
    _, path = own_checkpoint(tmp_path, **arguments)
    with pytest.raises(ValueError, match=message):
        convert(path, tmp_path / "out.pth", to=to)
    assert not (tmp_path / "out.pth").exists()


def test_convert_overwrites_only_when_told(tmp_path):
    _, path = own_checkpoint(tmp_path)
    (tmp_path / "out").write_text("precious")
    with pytest.raises(FileExistsError, match="exists already"):
        convert(path, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"
    convert(path, tmp_path / "out", overwrite=True)
    load_model(tmp_path / "out")


def test_every_layout_is_recognised_in_an_openmmlab_file(tmp_path):
    for name in skeletons.names():
        for edge_set in [*skeletons.edge_sets(name)] or [None]:
            out = tmp_path / f"{name}-{edge_set}"
            _, path = own_checkpoint(
                tmp_path, f"{name}{edge_set}", skeleton=name, edge_set=edge_set
            )
            convert(path, out, to="mmaction2")
            assert load_model(out).skeleton == skeletons.get(name, edge_set=edge_set)
