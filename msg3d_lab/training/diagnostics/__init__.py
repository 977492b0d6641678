"""Checks before a training: cost, learning rate, overfitting a few clips."""
