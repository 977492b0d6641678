"""NTU RGB+D's raw `.skeleton` files, and what their names say."""
