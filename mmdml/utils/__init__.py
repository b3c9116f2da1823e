"""Helpers that belong to no single part; import each from its own file."""
