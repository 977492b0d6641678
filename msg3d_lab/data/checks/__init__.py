"""What is wrong with a store or a source."""
