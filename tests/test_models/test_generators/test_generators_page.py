"""The generator that docs/generators.md writes does what the page says, and the page has all that are registered."""

import re
from pathlib import Path

import torch
from test_all_generators import GENERATORS, LABELS, STEP, raw_rows, rows_of
from tiny import REPO

from mmdml.registry import MODELS
from mmdml.structures import PairBatch

PAGE = Path(REPO, 'docs/generators.md').read_text(encoding='utf-8')


def test_the_page_has_every_generator():
    assert [kind.__name__ for kind in GENERATORS if f'| `{kind.__name__}` |' not in PAGE] == []


def test_the_generator_of_the_page():
    (block,) = (text for text in re.findall(r'```python\n(.*?)```', PAGE, flags=re.DOTALL) if 'class ' in text)
    try:
        exec(compile(block, 'docs/generators.md', 'exec'), {})
        anchors = rows_of(raw_rows())
        made = MODELS.build(dict(type='MeanOfClass'))(anchors, STEP)
    finally:
        MODELS.module_dict.pop('MeanOfClass')
    torch.testing.assert_close(made.embeddings[0], anchors.embeddings[:3].mean(0))
    pairs = PairBatch(anchors, made)
    assert made.labels.tolist() == [0, 1, 2, 3] and not pairs.positive_mask.any()
    assert torch.equal(pairs.negative_mask, LABELS[:, None] != made.labels)
