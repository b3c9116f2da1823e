from .draw import Draw
from .pk_sampler import PKSampler

__all__ = ['Draw', 'PKSampler']
