"""Options of ``mmdml evaluate`` into the scoring that they ask for; what is wrong is named by its option."""

import argparse
import ast
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from mmdml.evaluation.functional.options import CHOICES, SearchOptions
from mmdml.evaluation.prefix_scoring import PrefixScoring
from mmdml.evaluation.protocols import PerPart
from mmdml.structures.row_facts import RowFacts

DEFAULTS = {field.name: field.default for field in fields(SearchOptions)}
#: Options of the command, and the arguments of the scoring that they become.
_ARGUMENTS = {
    'protocol': 'protocol',
    'metrics': 'metrics',
    'recall_at': 'recall_at',
    'block_size': 'block_size',
    'widths': 'widths',
    'slices': 'slices',
    'rerank': 'reranking',
    'expand': 'query_expansion',
    'whiten': 'whitening',
    'clustering': 'clustering',
    'verification': 'verification',
    'consistency': 'consistency',
    'graded': 'graded',
}
# What settings of a wrong kind or size meet, in mmdml and in what it calls.
_REFUSED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)


def settings(words: Sequence[str] | None) -> dict[str, Any] | None:
    """``['k=5', 'alpha=0.5']`` -> ``{'k': 5, 'alpha': 0.5}``; None stays None.

    Raises:
        ValueError: for a word of another form, a value or an entry that is empty, or a key that is there twice.
    """
    if words is None:
        return None
    pairs = {}
    for word in words:
        key, equals, value = word.partition('=')
        if not key or not equals:
            raise ValueError(f'expected key=value, got {word!r}')
        if key in pairs:
            raise ValueError(f'{key} is given twice')
        items = value.split(',')
        if '' in items:
            raise ValueError(f'{word!r} lacks a value' + (' beside a comma' if ',' in value else ''))
        pairs[key] = [_value(item) for item in items] if ',' in value else _value(value)
    return pairs


def _value(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    # Python reads 1_0 as 10, people do not.
    return text if '_' in text and not isinstance(value, str) else value


def build_options(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of :class:`PrefixScoring`.

    Raises:
        ValueError: for words that are no settings; names the option.
    """
    clustering = _settings(args, 'clustering', [word for word in args.clustering or () if '=' in word])
    names = [word for word in args.clustering or () if '=' not in word]
    metrics = list(args.metrics or DEFAULTS['metrics'])
    if args.recall_at and 'Recall@K' not in metrics:
        # A K that is named is scored, whatever else is.
        metrics.insert(0, 'Recall@K')
    protocol = None
    if args.protocol is not None:
        protocol = dict(type=args.protocol[0], **_settings(args, 'protocol', args.protocol[1:]))
    return dict(
        protocol=protocol,
        clustering=clustering if not names else {**clustering, 'metrics': names},
        whitening=_settings(args, 'whiten'),
        query_expansion=_settings(args, 'expand'),
        verification=_listed(_settings(args, 'verification'), 'fpr'),
        consistency=_settings(args, 'consistency'),
        graded=_settings(args, 'graded'),
        widths=args.widths,
        slices=args.slices,
        values_out=args.values,
        reranking=_settings(args, 'rerank'),
        recall_at=args.recall_at or list(DEFAULTS['recall_at']),
        metrics=metrics,
        block_size=args.block_size,
        **{name: getattr(args, name) for name in CHOICES},
    )


def _settings(args: argparse.Namespace, name: str, words: Sequence[str] | None = None) -> dict[str, Any] | None:
    given = getattr(args, name)
    try:
        return None if given is None else settings(given if words is None else words)
    except ValueError as error:
        raise ValueError(f'{_shown(name, given)}: {error}') from None


def _listed(given: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    """Return settings of which one is a list, also where it has one entry."""
    if given is not None and not isinstance(given.get(name, []), list):
        given[name] = [given[name]]
    return given


def build_scoring(args: argparse.Namespace, options: dict[str, Any], facts: RowFacts | None = None) -> PrefixScoring:
    """Build the scoring; of images with parts the protocol is that of each part.

    Args:
        args: of the command, for messages.
        options: of :func:`build_options`.
        facts: of the images, once they are known.

    Raises:
        ValueError: if an option is refused; names it with its value.
        ValueError, TypeError, OSError, ImportError: if options do not go together, or need what is not there.
    """
    protocol = options['protocol']
    if facts is not None and facts.parts is not None:
        protocol = PerPart(protocol)
    try:
        return PrefixScoring(**{**options, 'protocol': protocol})
    except _REFUSED as error:
        for name, argument in _ARGUMENTS.items():
            _try_alone(name, getattr(args, name), {argument: options[argument]})
        raise ValueError(error.args[0] if isinstance(error, KeyError) else str(error)) from error


def _try_alone(name: str, given: Any, option: dict[str, Any]) -> None:
    try:
        PrefixScoring(**option)
    except _REFUSED as error:
        raise ValueError(f'{_shown(name, given)}: {error.args[0] if isinstance(error, KeyError) else error}') from error


def _shown(name: str, given: Any) -> str:
    """Return an option as it was given."""
    words = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    return ' '.join(map(str, ['--' + name.replace('_', '-'), *words]))
