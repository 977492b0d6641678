"""The method of docs/extending/method.md."""

import importlib.util
from pathlib import Path

import numpy as np
import torch

from msg3d_lab.explain import Occlusion, Options, Question, attribute, make_features, rank_methods

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "attribution_method.py"


def load_example():
    spec = importlib.util.spec_from_file_location("attribution_method", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Alone()


def test_the_method_of_the_guide_is_exact_on_a_linear_network(toy_skeleton):
    x, weights = torch.randn(3, 1, 4, 5, 3), torch.randn(2, 1, 4, 5, 3)
    question = Question(
        x=x,
        classes=torch.tensor([0, 1, 1]),
        features=make_features("joint", toy_skeleton, num_frames=4),
        baseline=torch.zeros_like(x),
        batch_size=2,
    )

    def linear(x):
        return torch.einsum("nmtvc,kmtvc->nk", x, weights)

    found = attribute(linear, question, load_example())
    expected = attribute(linear, question, Occlusion())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_method_of_the_guide_is_ranked_like_others(run):
    options = Options(num_clips=3, device="cpu")
    ranking = rank_methods(run, [load_example()], options, progress=False)
    assert ranking.best.name == "alone"
