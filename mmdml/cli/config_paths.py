"""Where in a config a part stands, for errors that name it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from mmengine.registry import Registry

_config: Any = None


def watch_config(config: Any) -> None:
    """Let errors of parts that are built from ``config`` carry the entry that they were built from."""
    global _config
    _config = config
    build = Registry.build
    if hasattr(build, '__wrapped__'):
        return

    @wraps(build)
    def build_and_remember(self: Registry, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        with settings_of(cfg):
            return build(self, cfg, *args, **kwargs)

    Registry.build = build_and_remember


@contextmanager
def settings_of(cfg: Any) -> Iterator[None]:
    """Let errors inside carry the entry whose settings are used, unless they carry one of a part of it."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, 'failed_config'):
            error.failed_config = cfg
        raise


def walk(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """All entries of a config with their dotted paths, outer ones first; items of lists by their number."""
    yield path, value
    if isinstance(value, dict):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        return
    for key, inner in items:
        yield from walk(inner, f'{path}.{key}' if path else key)


def path_of_failed_config(error: BaseException) -> str:
    """Path of the entry whose settings raised an error; '' if there is none.

    The builders change their copies, so the entry of a part is known by its type and most of its values. Of several the
    one that has most of its keys is it: variables of a recipe hold what is common to some.
    """
    failed = getattr(error, 'failed_config', None)
    if _config is None or not isinstance(failed, dict) or not failed:
        return ''
    wanted = {key: value for key, value in failed.items() if key != '_scope_'}
    entries = [(path, value) for path, value in walk(_as_dict(_config)) if isinstance(value, dict) and path]
    equal = [(path, value) for path, value in entries if _matches(value, wanted)]
    return max(equal, key=lambda each: len(each[1].keys() & wanted.keys()))[0] if equal else ''


def _as_dict(config: Any) -> dict:
    return config.to_dict() if hasattr(config, 'to_dict') else config


def _matches(entry: dict, wanted: dict) -> bool:
    if 'type' not in wanted:
        return entry.keys() == wanted.keys() and all(_equal(entry[key], wanted[key]) for key in entry)
    if entry.get('type') != wanted['type']:
        return False
    # The Runner adds arguments of its own and takes others out.
    return all(_equal(entry[key], wanted[key]) for key in entry.keys() & wanted.keys())


def _equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except (ValueError, TypeError, RuntimeError):  # arrays
        return True
