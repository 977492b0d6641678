"""What makes the layers fast."""
