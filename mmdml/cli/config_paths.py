"""Where in a config a part stands, for errors that name it."""

from collections.abc import Iterator
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
        try:
            return build(self, cfg, *args, **kwargs)
        except Exception as error:
            if not hasattr(error, 'failed_config'):
                error.failed_config = cfg
            raise

    Registry.build = build_and_remember


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
    """Path of the entry from which the part was built that raised an error; '' if there is none or more than one kind.

    The builders change their copies, so an entry is known by its type and most of its values.
    """
    failed = getattr(error, 'failed_config', None)
    if _config is None or not isinstance(failed, dict) or 'type' not in failed:
        return ''
    wanted = {key: value for key, value in failed.items() if key != '_scope_'}
    entries = [(path, value) for path, value in walk(_as_dict(_config)) if isinstance(value, dict)]
    equal = [path for path, value in entries if _matches(value, wanted)]
    return equal[0] if equal else ''


def _as_dict(config: Any) -> dict:
    return config.to_dict() if hasattr(config, 'to_dict') else config


def _matches(entry: dict, wanted: dict) -> bool:
    if entry.get('type') != wanted['type']:
        return False
    # The Runner adds arguments of its own and takes others out.
    return all(_equal(entry[key], wanted[key]) for key in entry.keys() & wanted.keys())


def _equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except (ValueError, TypeError, RuntimeError):  # arrays
        return True
