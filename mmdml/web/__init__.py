"""The search page and its JSON API: stores that are searched in a browser."""

import importlib

# Importing the package loads neither torch nor the web server: the process that decodes pictures needs neither.
_LATER = {'Gallery': 'galleries', 'create_app': 'app', 'open_galleries': 'galleries', 'serve': 'server'}

__all__ = ['Gallery', 'create_app', 'open_galleries', 'serve']


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        return getattr(importlib.import_module(f'{__name__}.{_LATER[name]}'), name)
    except ModuleNotFoundError as error:
        if error.name not in ('jinja2', 'multipart', 'python_multipart', 'starlette', 'uvicorn'):
            raise
        raise ImportError(f"the search page needs {error.name}: pip install 'mmdml[web]'") from None
