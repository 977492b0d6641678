"""Importers: from files as people have them to a store."""
