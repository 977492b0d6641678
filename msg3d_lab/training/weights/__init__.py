"""Weights of others: as a run of their own, and as what training starts from."""
