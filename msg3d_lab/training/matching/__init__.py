"""Hold recipes and runs against stores."""
