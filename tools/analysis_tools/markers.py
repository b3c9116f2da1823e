"""Markers in markdown, between which the scripts of this folder write: every one that opens is closed."""

import re

KINDS = ('results', 'paired', 'gain', 'score')
_MARKER = re.compile(rf'<!--\s*(?P<slash>/?)\s*(?P<kind>{"|".join(KINDS)})\s*(?::(?P<what>.*?))?-->', flags=re.DOTALL)


def check_markers(text: str) -> None:
    """Check the markers of a text, before anything between two of them is replaced.

    Raises:
        ValueError: for a marker that is not closed before the next one opens, closes nothing, or is written another
            way; names line and marker.
    """
    opened = None
    for marker in _MARKER.finditer(text):
        kind, what = marker['kind'], marker['what']
        if not marker['slash'] and what is None:
            continue  # a comment that is one such word
        right = f'<!-- /{kind} -->' if marker['slash'] else f'<!-- {kind}: {what.strip() or "NAME"} -->'
        if marker[0] != right:
            raise ValueError(f'{_line(text, marker)}: write {right}')
        if opened and not (marker['slash'] and kind == opened['kind']):
            raise ValueError(f'{_line(text, opened)} has no "<!-- /{opened["kind"]} -->" after it')
        if marker['slash'] and not opened:
            raise ValueError(f'{_line(text, marker)} closes nothing: no <!-- {kind}: NAME --> stands before it')
        opened = None if marker['slash'] else marker
    if opened:
        raise ValueError(f'{_line(text, opened)} has no "<!-- /{opened["kind"]} -->" after it')


def _line(text: str, marker: 're.Match[str]') -> str:
    return f'line {text.count(chr(10), 0, marker.start()) + 1}: {marker[0]}'
