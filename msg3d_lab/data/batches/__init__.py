"""Training and test batches of a store's clips: sampling, streams, augmentation, assembly."""
