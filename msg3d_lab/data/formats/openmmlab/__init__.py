"""OpenMMLab's annotation pickles, those of pyskl, and anybody's own."""
