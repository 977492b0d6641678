"""The sections of a recipe: what each setting means and what it can be.

A setting that was added after the first recipes has a default, which switches it off. So recipes in
older run folders keep their meaning and their hash.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from msg3d_lab.data.batches.assemble import Rescale
from msg3d_lab.data.batches.augment import Augment
from msg3d_lab.data.batches.sampling import Sampling
from msg3d_lab.data.batches.streams import BoneScores, Stream
from msg3d_lab.graph import Aggregation, Normalization, WindowEdges
from msg3d_lab.model.initialization import Initialization
from msg3d_lab.model.msg3d import Pathway
from msg3d_lab.yaml_library import explain_errors

# Settings of `Training` that were renamed: first name -> name now. Files may use either.
OLD_NAMES = {
    "learning_rate_batch": "base_batch_size",
    "average_decay": "ema_decay",
    "watch_every": "validate_every",
}

Count = Annotated[int, Field(ge=1)]
Angle = Annotated[float, Field(ge=0, le=180)]
Factor = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
RecordedName = Literal["prepare_3d", "prepare_paper", "prepare_2d", "prepare_2d_pyskl"]
Freezable = Literal["data_bn", "block1", "block2", "block3", "fc"]


class Section(BaseModel):
    """Frozen settings; a name that is unknown or missing is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, document: object, *, wrong: str) -> Self:
        """Read settings from a mapping; an error's one line begins with `wrong`."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise ValueError(f"{wrong}: {explain_errors(error)}") from error


class Data(Section):
    """Which clips, and what happens to them on the way into the network.

    Args:
        dataset: the data set's name, as `msg3d-lab data import --dataset` calls it.
        layout: the joint layout the store must have.
        preparation: what must have been done to the store's clips at import: "prepare_3d" and
            "prepare_2d" (mmaction2), "prepare_2d_pyskl" or "prepare_paper" (see
            `msg3d_lab.data.preprocess`). Default: null, anything.
        train_split: the split to train on.
        test_split: the split to test on; it decides nothing.
        validation_subjects: persons whose clips of the training split are the validation part: not
            trained on, evaluated during training, and allowed to decide (`keep`, `patience`). Off:
            []; then the test split is evaluated during training, and decides nothing.
        stream: joint, bone, joint_motion or bone_motion.
        clip_len: T, frames per clip.
        sampling: "uniform" (PoseC3D), "uniform_pyskl" (the same; test clips as pyskl draws them),
            "replay" (the paper: whole clip, repeated) or "resize".
        bone_scores: the score of a bone, in 2D: the "mean" of its two joints' or their
            "difference", as in the author's script for Kinetics.
        rescale: "minmax" scales each axis to [-1, 1], "none" leaves it.

    Training clips are augmented by the following (see `msg3d_lab.data.batches.augment.Augment`).

    Args:
        rotation: largest rotation about x, y, z, degrees; off: [0, 0, 0].
        scale: smallest and largest factor; off: [1, 1].
        shear: largest shear; off: 0.
        flip: probability of exchanging left and right; off: 0.
        joint_masking: fraction of the joints that are hidden; off: 0.
        frame_masking: fraction of the frames that are hidden, in one stretch; off: 0.
        crop: smallest and largest fraction of the recording that is used; off: [1, 1].
        mixup: parameter of the Beta distribution of the weights of two clips that are mixed; 0.2,
            say; off: 0.
    """

    dataset: str
    layout: str
    preparation: RecordedName | None = None
    train_split: str
    test_split: str
    validation_subjects: tuple[int, ...] = ()
    stream: Stream
    clip_len: int = Field(ge=1)
    sampling: Sampling
    bone_scores: BoneScores = "mean"
    rescale: Rescale
    rotation: tuple[Angle, Angle, Angle]
    scale: tuple[Factor, Factor]
    shear: float = Field(default=0.0, ge=0)
    flip: float = Field(default=0.0, ge=0, le=1)
    joint_masking: float = Field(default=0.0, ge=0, lt=1)
    frame_masking: float = Field(default=0.0, ge=0, lt=1)
    crop: tuple[Fraction, Fraction] = (1.0, 1.0)
    mixup: float = Field(default=0.0, ge=0)

    @property
    def augment(self) -> Augment:
        """The augmentation of training clips."""
        names = [field.name for field in fields(Augment)]
        return Augment(**{name: getattr(self, name) for name in names})

    @model_validator(mode="after")
    def _augment_is_valid(self) -> Data:
        _ = self.augment  # checks its arguments
        return self


class Model(Section):
    """The network: arguments of `msg3d_lab.model.MSG3D`, which documents them."""

    edge_set: str | None
    normalization: Normalization
    aggregation: Aggregation
    num_persons: int = Field(ge=1)
    base_channels: int = Field(ge=1)
    num_gcn_scales: int = Field(ge=1)
    num_g3d_scales: int = Field(ge=1)
    pathways: tuple[Pathway, ...]
    window_sizes: tuple[Count, ...]
    window_dilations: tuple[Count, ...]
    window_edges: WindowEdges
    residual_mask: bool
    tcn_dilations: tuple[Count, ...]
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _windows_match(self) -> Model:
        if len(self.window_sizes) != len(self.window_dilations):
            raise ValueError(
                f"window_sizes {list(self.window_sizes)} and window_dilations "
                f"{list(self.window_dilations)} must have the same length"
            )
        return self


class Training(Section):
    """How the weights are trained, by stochastic gradient descent.

    Args:
        seed: of the initial weights, the clips' order, the sampled frames and augmentation.
        epochs: epochs; one goes `repeat` times through the training clips.
        repeat: times that an epoch goes through the training clips.
        batch_size: clips per process and forward pass.
        accumulate: batches per step, whose gradients are averaged. Needs less memory than one batch
            of as many clips; only the batch normalisations see a difference. Off: 1.
        learning_rate: for steps of `base_batch_size` clips; scaled to the clips of a step.
        base_batch_size: the number of clips per step that `learning_rate` is for.
        schedule: "cosine" (to 0, per step) or "steps" (a tenth at each of `milestones`).
        milestones: epochs after which the learning rate drops, for "steps".
        warmup_epochs: epochs of linear growth at the start.
        optimizer: "sgd" (with Nesterov momentum) or "adamw".
        momentum: of "sgd".
        betas: of "adamw"; usually [0.9, 0.999].
        weight_decay: of all parameters; see `msg3d_lab.training.setup.build_optimizer`.
        clip_norm: largest norm of the gradient; a longer one is scaled down to it. Off: 0.
        label_smoothing: fraction of the target that is spread over all classes.
        ema_decay: of an exponential moving average of the weights, which is then evaluated and kept
            (see `msg3d_lab.training.ema`); 0.999, say. Off: 0.
        validate_every: epochs between two evaluations of the validation part (of the test split
            where there is none). The last epoch is always evaluated; 0: only the last one.
        keep: the weights of the "last" epoch, or of the epoch with the "best" validation top-1
            (ties go to the earlier epoch).
        patience: evaluations without a new best after which training stops; off: 0.
        recompute: whether the pathways of all blocks are computed again in backward: the same
            results with less memory, in more time.
        sync_norm: whether batch normalisation uses the clips of all processes (docs/clusters.md).
            False is what mmaction2 does, and gives other results. One process is not affected.
        average_statistics: whether the running statistics of batch normalisation become their mean
            over the processes after every epoch, before it is evaluated (mmengine's
            SyncBuffersHook). Without it and without `sync_norm`, those of the first process are
            kept. One process is not affected.
        initialization: of the weights: "pytorch" (PyTorch's own, as in the author's code),
            "openmmlab" or "pyskl" (see `msg3d_lab.model.initialization`).
        freeze: parts of the network that are not trained, of data_bn (the input's normalisation),
            block1, block2, block3 and fc (the classifier): their weights and running statistics
            stay as they are, and they compute as in evaluation, without dropout. Off: [].
        class_weights: "balanced" multiplies the loss of each training clip with
            `clips / (classes * clips of its class)`, whose mean over the training clips is 1;
            "none" leaves it. The loss of held-out clips has no weights.
        balanced_sampling: whether every class is drawn equally often in an epoch, which has as many
            clips as without it: clips of rare classes occur several times, and not all of a
            frequent class.
    """

    seed: int = Field(ge=0)
    epochs: int = Field(ge=1)
    repeat: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(gt=0)
    base_batch_size: int = Field(ge=1)
    schedule: Literal["cosine", "steps"]
    milestones: tuple[Count, ...]
    warmup_epochs: float = Field(ge=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(ge=0, lt=1)
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(default=0.0, ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    ema_decay: Decay = 0.0
    validate_every: int = Field(ge=0)
    keep: Literal["last", "best"] = "last"
    patience: int = Field(default=0, ge=0)
    recompute: bool = False
    sync_norm: bool = True
    average_statistics: bool = False
    initialization: Initialization = "pytorch"
    freeze: tuple[Freezable, ...] = ()
    class_weights: Literal["none", "balanced"] = "none"
    balanced_sampling: bool = False

    @property
    def chooses(self) -> bool:
        """Whether accuracy decides which epoch's weights are kept, or when training stops."""
        return self.keep == "best" or self.patience > 0

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, section: Any) -> Any:
        if not isinstance(section, dict):
            return section
        renamed = {OLD_NAMES.get(name, name): value for name, value in section.items()}
        for old, new in OLD_NAMES.items():
            if {old, new} <= section.keys():
                raise ValueError(f"{old} and {new} are the same setting: leave {old} out")
        return renamed

    @model_validator(mode="after")
    def _validates_if_it_chooses(self) -> Training:
        if self.chooses and not self.validate_every:
            raise ValueError(
                f"keep={self.keep} with patience={self.patience} chooses between epochs, found "
                "validate_every=0: set it to 1 or more"
            )
        return self

    @model_validator(mode="after")
    def _something_is_trained(self) -> Training:
        if set(self.freeze) == set(get_args(Freezable)):
            raise ValueError(
                f"freeze={list(self.freeze)} is the whole network: leave something to train"
            )
        return self

    @model_validator(mode="after")
    def _balances_once(self) -> Training:
        if self.balanced_sampling and self.class_weights != "none":
            raise ValueError(
                "class_weights=balanced and balanced_sampling=true both make rare classes count "
                "more: choose one"
            )
        return self
