"""Makes torchvision importable where its compiled operators do not fit the installed torch.

The torchvision wheel of the package index is built for CUDA. Beside a CPU-only torch its shared library cannot be
loaded, and ``import torchvision`` ends in ``RuntimeError: operator torchvision::nms does not exist``, because it
registers shape functions for two operators that only the library defines. mmdml needs none of the compiled operators,
so their two schemas are enough to let the pure-Python rest (transforms, models, weights) be imported.
"""

from types import ModuleType
from typing import Any

#: The operators that ``torchvision._meta_registrations`` names without asking whether the library was loaded.
OPERATOR_SCHEMAS = {
    'nms': 'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms': 'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
}

# torch drops a definition when the library object that made it is collected.
_libraries: list[Any] = []


def define_missing_operators(extension: ModuleType) -> None:
    """Define the schemas of ``torchvision::nms`` and ``torchvision::qnms`` where torchvision's library is not loaded.

    Does nothing where torchvision is whole. It is called right after ``torchvision.extension`` is imported, the module
    that tries to load the library, and before the one that needs the operators. Calling an operator that is defined
    here raises ``NotImplementedError`` from torch.

    Args:
        extension: The module ``torchvision.extension``.
    """
    if extension._has_ops():
        return
    import torch

    missing = [schema for name, schema in OPERATOR_SCHEMAS.items() if not hasattr(torch.ops.torchvision, name)]
    if not missing:
        return
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for schema in missing:
        library.define(schema)
    _libraries.append(library)


def is_patched() -> bool:
    """Whether this process runs torchvision on schemas defined here instead of its compiled operators."""
    return bool(_libraries)
