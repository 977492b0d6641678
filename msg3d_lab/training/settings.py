"""The sections of a recipe: what each setting means and what it can be.

Only settings that came after the first recipes have a default, which is "off": so the recipes of
older run folders are read as they were meant, and keep their hashes.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from msg3d_lab.data.batches.augment import Augment
from msg3d_lab.graph import Aggregation, Normalization, WindowEdges
from msg3d_lab.model.msg3d import Pathway

__all__ = ["Data", "Model", "Section", "Training"]

Stream = Literal["joint", "bone", "joint_motion", "bone_motion"]
Sampling = Literal["uniform", "replay", "resize"]
Count = Annotated[int, Field(ge=1)]
Angle = Annotated[float, Field(ge=0, le=180)]
Factor = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Frozen settings; a name that is unknown or missing is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Data(Section):
    """Which clips, and what happens to them on the way into the network.

    Args:
        dataset: the data set's name, as `msg3d-lab data import --dataset` calls it.
        layout: the joint layout the store must have.
        train_split: trained on.
        test_split: tested on; it decides nothing.
        validation_subjects: whose clips of the training split are not trained on but watched, and
            may decide (`keep`, `patience`). Off: [], and the test split is watched.
        stream: joint, bone, joint_motion or bone_motion.
        clip_len: T, frames per clip.
        sampling: "uniform" (PoseC3D), "replay" (the paper: whole clip, repeated) or "resize".
        rescale: "minmax" scales each axis to [-1, 1], "none" leaves it.

    Training clips are changed at random by the following, which `data.augment.Augment` documents.

    Args:
        rotation: largest rotation about x, y, z, degrees; off: [0, 0, 0].
        scale: smallest and largest factor; off: [1, 1].
        shear: largest shear; off: 0.
        flip: how probable a change of left and right is; off: 0.
        joint_masking: share of the joints that are hidden; off: 0.
        frame_masking: share of the frames that are hidden, in one stretch; off: 0.
        crop: smallest and largest share of the recording that is looked at; off: [1, 1].
    """

    dataset: str
    layout: str
    train_split: str
    test_split: str
    validation_subjects: tuple[int, ...] = ()
    stream: Stream
    clip_len: int = Field(ge=1)
    sampling: Sampling
    rescale: Literal["none", "minmax"]
    rotation: tuple[Angle, Angle, Angle]
    scale: tuple[Factor, Factor]
    shear: float = Field(default=0.0, ge=0)
    flip: float = Field(default=0.0, ge=0, le=1)
    joint_masking: float = Field(default=0.0, ge=0, lt=1)
    frame_masking: float = Field(default=0.0, ge=0, lt=1)
    crop: tuple[Share, Share] = (1.0, 1.0)

    @property
    def augment(self) -> Augment:
        """The augmentation of training clips."""
        names = [field.name for field in fields(Augment)]
        return Augment(**{name: getattr(self, name) for name in names})

    @model_validator(mode="after")
    def _can_be_augmented(self) -> Data:
        _ = self.augment  # has checks of its own
        return self

    @model_validator(mode="after")
    def _subjects_occur_once(self) -> Data:
        subjects = self.validation_subjects
        twice = [subject for subject in subjects if subjects.count(subject) > 1]
        if twice:
            raise ValueError(f"validation_subjects names {twice[0]} twice: leave one out")
        return self


class Model(Section):
    """The network: arguments of `MSG3D`, which documents them."""

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
    """How the weights are found, by stochastic gradient descent.

    Best is the look at the validation part with the highest top-1, of equals the earliest.

    Args:
        seed: of the weights' start, the clips' order, frames and augmentation.
        epochs: how often the (repeated) training set is gone through.
        repeat: how often an epoch goes through the training clips.
        batch_size: clips that a process computes at a time.
        accumulate: batches per step, whose gradients are averaged; less memory than one batch of
            as many clips, which differs in the statistics of its batch normalisations only. Off: 1.
        learning_rate: at a total batch of `learning_rate_batch` clips; scaled in proportion.
        learning_rate_batch: the batch the learning rate was found for.
        schedule: "cosine" (to 0, per step) or "steps" (a tenth at each of `milestones`).
        milestones: epochs after which the learning rate drops, for "steps".
        warmup_epochs: epochs of linear growth at the start.
        optimizer: "sgd" (with Nesterov momentum) or "adamw".
        momentum: of "sgd".
        betas: of "adamw"; usually [0.9, 0.999].
        weight_decay: of all parameters; see `training.optimization.build_optimizer`.
        clip_norm: largest norm of the gradient, which is shortened to it; off: 0.
        label_smoothing: share of the target spread over all classes.
        average_decay: of an average of the weights, which is then what is watched and kept (see
            `training.optimization.Average`); 0.999 or so, off: 0.
        watch_every: epochs between two looks at the validation part, or at the test split where
            there is none; 0 for the last epoch only.
        keep: the weights of the "last" epoch, or of the "best".
        patience: looks without a new best after which training stops; off: 0.
        recompute: whether the pathways of all blocks are computed again in backward; the same
            results from less memory in more time.
        sync_norm: whether the batch normalisations of several processes see the clips of all; empty
            bodies are then computed like all others. False is what mmaction2 does, another training
            (docs/clusters.md). One process has none to share with. Off: true.
    """

    seed: int = Field(ge=0)
    epochs: int = Field(ge=1)
    repeat: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(gt=0)
    learning_rate_batch: int = Field(ge=1)
    schedule: Literal["cosine", "steps"]
    milestones: tuple[Count, ...]
    warmup_epochs: float = Field(ge=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(ge=0, lt=1)
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(default=0.0, ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    average_decay: Decay = 0.0
    watch_every: int = Field(ge=0)
    keep: Literal["last", "best"] = "last"
    patience: int = Field(default=0, ge=0)
    recompute: bool = False
    sync_norm: bool = True

    @property
    def chooses(self) -> bool:
        """Whether accuracy decides which epoch's weights are kept, or when training stops."""
        return self.keep == "best" or self.patience > 0

    @model_validator(mode="after")
    def _looks_before_it_chooses(self) -> Training:
        if self.chooses and not self.watch_every:
            raise ValueError(
                f"keep={self.keep} with patience={self.patience} needs looks to choose from, found "
                "watch_every=0: set it to 1 or more"
            )
        return self
