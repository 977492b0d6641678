import pytest

from msg3d_lab.experiments import Grid
from msg3d_lab.training import recipes


@pytest.fixture(scope="session")
def toy_grid(toy_recipe, tmp_path_factory):
    """Four networks of seconds, two of them the same, and one that cannot be trained."""
    path = tmp_path_factory.mktemp("grid") / "toy.yaml"
    recipes.save(toy_recipe, path)
    return Grid.model_validate(
        {
            "name": "toy-grid",
            "title": "Does it run?",
            "source": "a test",
            "recipe": str(path),
            "set": {"pathways": ["factorized"], "num_gcn_scales": 2},
            "seeds": [1, 2],
            "variants": [
                {"name": "powers-k1", "group": "powers", "set": {"aggregation": "powers"}},
                {"name": "k1", "group": "powers", "compare_with": "powers-k1"},
                {"name": "k2", "compare_with": "k1", "set": {"model.num_gcn_scales": 3}},
                {"name": "k1-again", "compare_with": "k2", "set": {"num_gcn_scales": 2}},
                {"name": "broken", "compare_with": "k1", "set": {"learning_rate": 1e30}},
            ],
        }
    )
