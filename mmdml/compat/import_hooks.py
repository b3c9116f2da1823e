"""Run a function right after a module is imported, without importing that module now."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

Callback = Callable[[ModuleType], None]


class _AfterImportFinder(MetaPathFinder):
    """Lets the ordinary finders find a watched module and adds its callbacks to the end of its execution."""

    def __init__(self) -> None:
        self.callbacks: dict[str, list[Callback]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the ordinary spec of a watched module with its callbacks attached, otherwise ``None``."""
        if fullname not in self.callbacks:
            return None
        spec = self._ordinary_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        self._attach(spec)
        return spec

    def _ordinary_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find_spec = None if finder is self else getattr(finder, 'find_spec', None)
            spec = find_spec(fullname, path, target) if find_spec else None
            if spec is not None:
                return spec
        return None

    def _attach(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            # An attribute of this one loader, not a wrapper class: resources, inspect and reload see the true loader.
            del loader.exec_module
            execute(module)
            # Taken out only now, so that an import that fails may be tried again.
            for callback in self.callbacks.pop(spec.name, ()):
                callback(module)

        loader.exec_module = exec_module


_FINDER = _AfterImportFinder()


def after_import(name: str, callback: Callback) -> None:
    """Call ``callback(module)`` once, right after module ``name`` is imported; at once if it already is.

    Args:
        name: Full name of the module, for example ``'mmengine.config.utils'``.
        callback: Receives the module. What it raises, the import raises.

    Example:
        >>> after_import('colorsys', lambda module: print(module.__name__))
        >>> import colorsys
        colorsys
    """
    if name in sys.modules:
        callback(sys.modules[name])
        return
    _FINDER.callbacks.setdefault(name, []).append(callback)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
