"""Batches of a store's clips: frames, streams, augmentation, assembly."""
