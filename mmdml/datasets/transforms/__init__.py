from .random_affine import RandomAffine

__all__ = ['RandomAffine']
