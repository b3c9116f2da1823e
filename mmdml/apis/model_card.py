"""The card of a model: what it was trained on, how, and what to expect of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmdml.utils.tables import markdown_table

#: What a reader is told of every model that was trained here.
LIMITS = (
    'Scores hold for pictures like those that were scored: other subjects, cameras or crops need a test of their own '
    '(`mmdml test FOLDER --model MODEL`).',
    'Near pictures are similar to the model, not the same thing by proof. Not for decisions about people.',
)

_TOLD_ELSEWHERE = ('name', 'scores', 'scored_on', 'tests', 'command')


def model_card(facts: Mapping[str, Any], limits: Sequence[str] = LIMITS, licenses: Sequence[str] = ()) -> str:
    """Return the text of a model card in Markdown.

    Args:
        facts: ``name``, ``data``, ``command``, ``commit`` and whatever else is known; ``scores`` are names with
            ``[before, after]`` the training or one number, in percent, and ``scored_on`` says of what; ``tests`` has
            more of both, each with its ``command``.
        limits: sentences.
        licenses: names of those in the folder ``licenses`` beside the card.
    """
    lines = [
        f'# {facts["name"]}',
        '',
        'An embedding model of mmdml: pictures to vectors of length 1, near for alike.',
        '',
    ]
    for test in [facts, *facts.get('tests', [])]:
        if 'scores' in test:
            by = '' if test is facts else f' by `{test["command"]}`'
            lines += [f'Scores on {test["scored_on"]}{by}, in percent:', '', _scores(test['scores']), '']
    told = {key: value for key, value in facts.items() if key not in _TOLD_ELSEWHERE}
    lines += [f'- {key.replace("_", " ")}: {value}' for key, value in told.items()]
    if 'command' in facts:
        lines += ['', 'Trained by', '', '```shell', str(facts['command']), '```']
    lines += ['', '## Limits', '', *(f'- {each}' for each in limits)]
    if licenses:
        lines += ['', '## Licenses', '', *(f'- {each}: `licenses/{each}.txt`' for each in licenses)]
    return '\n'.join(lines) + '\n'


def own_limits(card: str) -> list[str]:
    """Return the limits on a card that are the model's own, not those of every model."""
    section = card.partition('\n## Limits\n')[2].partition('\n## ')[0]
    lines = [line.removeprefix('- ') for line in section.splitlines() if line.startswith('- ')]
    return [line for line in lines if line not in LIMITS]


def _scores(scores: Mapping[str, Any]) -> str:
    pairs = {name: value if isinstance(value, list | tuple) else [value] for name, value in scores.items()}
    before = any(len(each) > 1 for each in pairs.values())
    header = ['', 'before training', 'after'] if before else ['', 'score']
    return markdown_table(header, [[name, *(f'{value:.2f}' for value in each)] for name, each in pairs.items()])
