"""Pooled features of length 1, as saved features have it."""

import torch
from torch.nn import functional as F

from mmdml.registry import MODELS


def test_what_another_pooling_returns_has_length_one_and_zero_stays_zero():
    maps = torch.rand(3, 4, 5, 5)
    maps[2] = 0
    unit = MODELS.build(dict(type='UnitPooling', pooling=dict(type='GlobalMaxPooling')))(maps)
    torch.testing.assert_close(unit, F.normalize(maps.amax(dim=(2, 3)), dim=1))
    assert unit.norm(dim=1).tolist()[2] == 0
    mean = MODELS.build(dict(type='UnitPooling'))(maps.half())
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean[:2].norm(dim=1), torch.ones(2))
