import os

import pytest

from mmdml.utils.names import printable


@pytest.mark.parametrize(
    'name, text',
    [
        ('a b/c.png', 'a b/c.png'),
        ('gr\u00fcn/\u65e5\u672c', 'gr\u00fcn/\u65e5\u672c'),
        (os.fsdecode(b'caf\xe9'), r'caf\xe9'),
        ('a\nb\x1b[31m\u2028', r'a\nb\x1b[31m\u2028'),
        ('\ud800', r'\ud800'),
        (17, '17'),
    ],
)
def test_every_name_can_be_encoded_and_stays_in_its_line(name, text):
    assert printable(name) == text
    assert printable(name).encode('utf-8')
