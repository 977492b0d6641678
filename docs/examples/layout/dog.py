"""A layout of one's own: from a YAML file to a network on its graph."""

from pathlib import Path

import torch

import msg3d_lab as lab

dog = lab.skeletons.load(Path(__file__).with_name("dog12.yaml"))

# The longest way between two joints, in edges, plus one: as many scales as reach every joint.
num_scales = int(lab.graph.hop_distance(dog.adjacency).max()) + 1

model = lab.MSG3D(
    num_classes=5, skeleton=dog, num_persons=1, base_channels=12, num_gcn_scales=num_scales
)
logits = model(torch.zeros(2, 1, 16, dog.num_joints, 3))  # (N, M, T, V, C) -> (N, classes)

axes = lab.viz.body_graph(dog)
