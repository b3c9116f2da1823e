"""What MMEngine's reader of config files needs: mmdml's configs as bases, no residue of inheritance, no endless circle.

Everything acts where a config is read, so that a config means the same to the tools, a notebook and ``Runner``.
"""

import os.path as osp
import re
import traceback
from collections.abc import Iterator
from functools import wraps
from types import ModuleType
from typing import IO, Any

# A variable of a base file, as in ``iaa = {{_base_.iaa}}``.
_BASE_VARIABLE = re.compile(r'\{\{\s*_base_\.([\w.]+)\s*\}\}')
# Dicts that MMEngine hands to plain functions, which have no scope.
_PLAIN_FUNCTIONS = ('collate_fn', 'worker_init_fn')


def register_config_scope(config_utils: ModuleType) -> None:
    """Add mmdml to the packages whose configs other projects may inherit.

    MMEngine looks the scope before ``::`` up in ``MODULE2PACKAGE`` and reads ``<package>/.mim/configs``::

        _base_ = ['mmdml::iaa/iaa_ms_r50_cub.py']

    Args:
        config_utils: The module ``mmengine.config.utils``.
    """
    config_utils.MODULE2PACKAGE['mmdml'] = 'mmdml'


def mend_config_files(config: ModuleType) -> None:
    """Make MMEngine read configs without residue.

    - ``_delete_`` goes where nothing is inherited as well.
    - ``_scope_`` goes where the config's own scope is mmdml, and always where a plain function would get it.
    - ``{{_base_.name}}`` in a Python config is a copy of the value from its line on, and may be edited below it.
    - Files that inherit each other in a circle are refused at once.
    - A file that ends the program, as by ``sys.exit()``, is refused.
    - A file may begin with a byte order mark, as editors on Windows write it and Python reads it.

    Args:
        config: The module ``mmengine.config.config``, right after its import.
    """
    # All files that the module reads are opened there, by this name.
    config.open = _open
    _ReadingConfig.install(config.Config)


def _open(path: str, mode: str = 'r', encoding: str | None = None) -> IO:
    """Open a text; of one in UTF-8 that is read, a byte order mark is skipped."""
    return open(path, mode, encoding='utf-8-sig' if (mode, encoding) == ('r', 'utf-8') else encoding)


class _ReadingConfig:
    """The functions that replace those of ``Config``."""

    @staticmethod
    def install(config: type) -> None:
        read, merge, substitute = config._file2dict, config.merge_from_dict, config._pre_substitute_base_vars
        from_file = config.fromfile
        if hasattr(read, '__wrapped__'):
            return
        reading: list[str] = []

        @wraps(read)
        def file_to_dict(filename: str, *args: Any, **kwargs: Any) -> tuple[dict, str, dict]:
            path = osp.abspath(osp.expanduser(filename))
            if path in reading:
                circle = ' -> '.join([*reading[reading.index(path) :], path])
                raise ValueError(f'config files inherit each other in a circle: {circle}')
            reading.append(path)
            try:
                values, text, variables = read(filename, *args, **kwargs)
            finally:
                reading.pop()
            _drop_delete(values)
            if not reading:
                _drop_scope(values, values.get('default_scope') == 'mmdml')
            return values, text, variables

        @wraps(from_file)
        def config_from_file(filename: str, *args: Any, **kwargs: Any) -> Any:
            try:
                return from_file(filename, *args, **kwargs)
            except SystemExit as error:
                # The code of config files, and of modules that they import, is all that runs there as a module.
                places = [each for each in traceback.extract_tb(error.__traceback__) if each.name == '<module>']
                where = f'{places[-1].filename}, line {places[-1].lineno}' if places else filename
                raise ValueError(
                    f'{where}: the file ends the program (SystemExit: {error}); a config only assigns values'
                ) from error

        @wraps(merge)
        def merge_from_dict(self: Any, options: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            merge(self, options, *args, **kwargs)
            _drop_delete(self._cfg_dict)

        @wraps(substitute)
        def substitute_base_variables(filename: str, target: str) -> dict[str, str]:
            if not filename.endswith('.py'):
                return substitute(filename, target)
            with _open(filename, encoding='utf-8') as file:
                text = file.read()
            # MMEngine puts a string in its place and the value only when the file has run. ``_base_`` holds the merged
            # bases while it runs.
            text = _BASE_VARIABLE.sub(r"__import__('copy').deepcopy(_base_.\1)", text)
            with open(target, 'w', encoding='utf-8') as file:
                file.write(text)
            return {}

        config.fromfile = staticmethod(config_from_file)
        config._file2dict = staticmethod(file_to_dict)
        config.merge_from_dict = merge_from_dict
        config._pre_substitute_base_vars = staticmethod(substitute_base_variables)


def _dicts(value: Any, key: str = '') -> Iterator[tuple[str, dict]]:
    """All dicts of a config with the keys that they stand under."""
    if isinstance(value, dict):
        yield key, value
        for name, inner in dict.items(value):
            yield from _dicts(inner, name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _dicts(inner, key)


def _drop_delete(values: Any) -> None:
    for _, each in _dicts(values):
        dict.pop(each, '_delete_', None)


def _drop_scope(values: Any, own: bool) -> None:
    for key, each in _dicts(values):
        if key in _PLAIN_FUNCTIONS or (own and dict.get(each, '_scope_') == 'mmdml'):
            dict.pop(each, '_scope_', None)
