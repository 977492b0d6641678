"""Figures of importance."""
