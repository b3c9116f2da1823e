"""Settings on a command line, KEY=VALUE, that override those of a config."""

import argparse
import re
from typing import Any

from mmengine.config import DictAction

_DICT = re.compile(r'(?:^|[\[(,])\s*(?:dict\(|\{)')


class ConfigOptions(DictAction):
    """MMEngine's reading of settings, which ends in an error of one line where it cannot read one.

    Raises:
        argparse.ArgumentError: a setting without a value, with brackets that do not match, or with a dict, which would
            be read as a text.
    """

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string=None) -> None:
        for setting in values or []:
            key, found, value = setting.partition('=')
            try:
                if not found or not key or _DICT.search(value.strip('\'"')):
                    raise ValueError
                self._parse_iterable(value)
            except (ValueError, AssertionError, RecursionError):
                raise argparse.ArgumentError(
                    self,
                    f'{setting!r} cannot be read: settings are KEY=VALUE, and lists KEY="[a,b]"; what holds a dict '
                    'stands in a config of your own that inherits this one (_base_)',
                ) from None
        super().__call__(parser, namespace, values, option_string)
