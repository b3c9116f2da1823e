"""The commands of mmdml."""
