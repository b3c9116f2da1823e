"""Models by name: what the model index lists, built from their configs."""

from mmdml.apis.models import get_model, list_models

__all__ = ['get_model', 'list_models']
