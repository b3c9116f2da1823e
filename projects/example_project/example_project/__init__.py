"""Parts that live outside mmdml; importing this package registers them."""

from .class_uniform_sampler import ClassUniformSampler
from .soft_margin_triplet_loss import SoftMarginTripletLoss

__all__ = ['ClassUniformSampler', 'SoftMarginTripletLoss']
