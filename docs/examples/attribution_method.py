"""An attribution method: how much one feature alone, added to the baseline, raises the score."""

from dataclasses import dataclass

import torch

from msg3d_lab.explain import Method, Passes


@dataclass(frozen=True, kw_only=True)
class Alone(Method):
    """The score of the baseline with one feature of the clip, minus that of the baseline."""

    name: str = "alone"

    def attribute(self, network, question):
        """Return the importance of every feature of a batch of clips: (N, features)."""
        N, F = len(question), len(question.features)
        states = torch.cat([torch.zeros(1, F), torch.eye(F)]).to(question.x.device)
        with torch.no_grad():
            baseline, *alone = (question.scores(network, row.expand(N, F)) for row in states)
        return torch.stack(alone, dim=1) - baseline[:, None]

    def cost(self, num_features):
        """Return the passes of one clip: the baseline, then each feature."""
        return Passes(forward=num_features + 1, backward=0)
