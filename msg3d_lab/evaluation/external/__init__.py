"""Score files written by other people's code."""
