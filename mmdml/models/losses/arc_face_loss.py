"""Additive angular margin loss, ArcFace, with sub-centers."""

import math

import torch
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures.checks import check_numbers, check_positive

from .softmax_proxy_loss import SoftmaxProxyLoss


@MODELS.register_module()
class ArcFaceLoss(SoftmaxProxyLoss):
    r"""ArcFace: a softmax over scaled cosines, in which the angle to the own proxy is enlarged by a margin.

    Deng et al., *ArcFace: Additive Angular Margin Loss for Deep Face Recognition*, CVPR 2019, equation 3; sub-centers
    from *Sub-center ArcFace*, ECCV 2020. With the angle :math:`\theta_z` between a row and proxy z,

    .. math:: L = -\operatorname{mean}_x \ln
        \frac{e^{s \cos(\theta_y + m)}}{e^{s \cos(\theta_y + m)} + \sum_{z \neq y} e^{s \cos \theta_z}}

    With several sub-centers a class, :math:`\theta_z` is the angle to the nearest of them: noisy and atypical images
    gather at a sub-center of their own. Where :math:`\theta_y + m > \pi`, :math:`\cos \theta_y - m \sin m` takes the
    place of the cosine, which would rise again. Equals ``ArcFaceLoss`` (``SubCenterArcFaceLoss``) of
    pytorch-metric-learning, whose margin is in degrees, but for angles below 0.001 rad, where the gradient is 0
    instead of unbounded.

    Args:
        num_classes: number C of training classes.
        embed_dim: width D of the embedding. A ``DivideAndConquerHead`` puts in the width of each slice.
        margin: m in [0, pi], in radians; 0.5 in the paper.
        scale: s > 0; 64 in the paper.
        sub_centers: proxies of a class; 3 in the paper on sub-centers.
        sharded: divide the proxies among the ranks, see :class:`SoftmaxProxyLoss`.

    Raises:
        ValueError: for a value out of range; in the forward pass, what :class:`ProxyLoss` refuses.

    Config::

        loss=dict(type='ArcFaceLoss', num_classes=100, embed_dim=512, margin=0.5, scale=64, sub_centers=3)
    """

    def __init__(
        self,
        num_classes: int,
        embed_dim: int,
        margin: float = 0.5,
        scale: float = 64.0,
        sub_centers: int = 1,
        sharded: bool = False,
    ) -> None:
        super().__init__(num_classes, embed_dim, proxies_per_class=sub_centers, sharded=sharded)
        check_numbers(margin=margin)
        check_positive(scale=scale)
        if not 0 <= margin <= torch.pi:
            raise ValueError(f'margin is an angle in radians, in [0, pi], got {margin}')
        self.margin = margin
        self.scale = scale

    def class_cosines(self, cosine: Tensor) -> Tensor:
        """Cosines to the nearest sub-centers of the classes."""
        # A maximum over single values is no small part of a step.
        number = self.proxies_per_class
        return cosine if number == 1 else cosine.unflatten(1, (-1, number)).amax(2)

    def target_cosine(self, target: Tensor) -> Tensor:
        """Cosine of the enlarged angle."""
        # The derivative of the angle is unbounded at 0 and pi.
        angle = target.clamp(-1 + 5e-7, 1 - 5e-7).acos()
        beyond = target - self.margin * math.sin(self.margin)
        return torch.where(angle <= torch.pi - self.margin, (angle + self.margin).cos(), beyond)
