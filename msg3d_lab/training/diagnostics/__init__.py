"""Before a training: cost, learning rate, a sanity run."""
