"""Predict a 3D recording with an exported network: python run_onnx.py model.onnx recording.npy.

Needs onnxruntime and numpy, not MS-G3D Lab. The recording is (persons, frames, joints, 3), metres.
"""

import json
import sys

import numpy as np
import onnxruntime


def rotation(source, target):
    """The smallest rotation that makes one direction parallel to another (Rodrigues)."""
    a, b = source / np.linalg.norm(source), np.array(target, float)
    x, y, z = axis = np.cross(a, b)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    cosine = a @ b
    return cosine * np.eye(3) + cross + np.outer(axis, axis) / (1 + cosine)


session = onnxruntime.InferenceSession(sys.argv[1])
facts = json.loads(session.get_modelmeta().custom_metadata_map["msg3d_lab"])
clip = np.load(sys.argv[2]).astype(float)
wanted = {"prepare_3d", "joint", "none"}
assert {facts["preparation"]["name"], facts["stream"], facts["rescale"]} == wanted, facts

# Preparation: the person seen longest first, centred and turned by its first frame.
seen = clip.any(axis=(2, 3))
clip = clip[np.argsort(-seen.sum(axis=1), kind="stable")]
clip = clip[:, clip[0].any(axis=(1, 2))]
(low, high), (right, left) = facts["up"], facts["across"]
clip = np.where(clip.any(axis=-1, keepdims=True), clip - clip[0, 0, high], 0)
clip = clip @ rotation(clip[0, 0, high] - clip[0, 0, low], (0, 0, 1)).T
clip = clip @ rotation(clip[0, 0, right] - clip[0, 0, left], (1, 0, 0)).T

# As many persons and frames as the network was trained with; a short recording is repeated.
length, persons = facts["clip_len"], facts["num_persons"]
count = clip.shape[1]
frames = np.arange(length) % count if count < length else np.arange(length) * count // length
x = np.zeros((1, persons, length, *clip.shape[2:]), np.float32)
x[0, : len(clip)] = clip[:persons, frames]

(logits,) = session.run(None, {"x": x})
scores = np.exp(logits[0] - logits[0].max())
for i in np.argsort(-scores)[:5]:
    print(f"{scores[i] / scores.sum():6.1%}  {facts['label_names'][i]}")
