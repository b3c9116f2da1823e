"""Tables in text: read those of users, with their lines and whole numbers; write those of reports."""

import codecs
import csv
import io
import os.path as osp
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_BYTE_ORDER_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, 'utf-32'),
    (codecs.BOM_UTF32_BE, 'utf-32'),
    (codecs.BOM_UTF16_LE, 'utf-16'),
    (codecs.BOM_UTF16_BE, 'utf-16'),
    (codecs.BOM_UTF8, 'utf-8-sig'),
)
_DELIMITERS = (',', ';', '\t')
_WHOLE_NUMBER = re.compile(r'[+-]?[0-9]+')


class Table(NamedTuple):
    """A text table with a header.

    Attributes:
        header: column names in lower case, without blanks around them; no name occurs twice.
        rows: the cells of each row, without blanks around them; as many as there are names.
        lines: line number of each row in the file, counted from 1.
    """

    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """Cells of one column, one a row.

        Raises:
            KeyError: if the header lacks the name.
        """
        if name not in self.header:
            raise KeyError(f'there is no column {name!r}, the header has {self.header}')
        place = self.header.index(name)
        return [row[place] for row in self.rows]


def text_encoding(content: bytes) -> str:
    """Return the encoding that the byte order mark of a text says, and UTF-8 where it has none."""
    return next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), 'utf-8')


def split_header(line: str) -> tuple[str, list[str]]:
    """Return the delimiter that parts a header into most names, and the names, in lower case without blanks.

    Raises:
        csv.Error: a name is too long.
    """
    splits = {delimiter: next(csv.reader([line], delimiter=delimiter)) for delimiter in _DELIMITERS}
    delimiter = max(_DELIMITERS, key=lambda name: len(splits[name]))
    return delimiter, [name.strip().casefold() for name in splits[delimiter]]


def read_lines(path: str) -> list[str]:
    r"""Lines of a text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Lines end with ``\n``, ``\r\n`` or ``\r`` and nowhere else, so that U+2028 or a form feed in a name cuts nothing.

    Raises:
        ValueError: if the file is in another encoding or binary; names file, line and byte.
        FileNotFoundError: if the file is not there.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'there is no file {osp.abspath(path)}')
    with open(path, 'rb') as file:
        content = file.read()
    encoding = text_encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object.count(b'\n', 0, error.start) + 1
        found = error.object[error.start : error.start + 1]
        name = encoding.removesuffix('-sig').upper()
        raise ValueError(
            f'{osp.abspath(path)}, line {line} is not {name}: it has the byte {found!r}. Save the file as UTF-8, '
            f'e.g. iconv -f latin1 -t utf-8'
        ) from None
    if '\0' in text:
        line = len(io.StringIO(text[: text.index('\0')], newline=None).readlines()) or 1
        raise ValueError(f'{osp.abspath(path)}, line {line} is no text: it has a zero byte. Save the file as UTF-8')
    # Unlike splitlines(), this parts lines at line ends only.
    return [line.rstrip('\n') for line in io.StringIO(text, newline=None)]


def read_table(path: str) -> Table:
    """Read a table of comma, semicolon or tab separated values with a header.

    The delimiter is the one that parts the header into most names. Values may stand in double quotes. Blanks around
    names and values do not count, nor does the case of names; empty lines are skipped.

    Raises:
        ValueError: if the file is empty or not text, a name is missing or occurs twice, or a row has more or fewer
            values than the header; names file and line.
        FileNotFoundError: if the file is not there.
    """
    lines = read_lines(path)
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ValueError(f'{osp.abspath(path)} is empty: a table begins with a header')
    where = f'{osp.abspath(path)}, line'
    try:
        delimiter, header = split_header(lines[first])
    except csv.Error as error:
        raise ValueError(f'{where} {first + 1}: {error}') from None
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated or '' in header:
        fault = f'the column {repeated[0]!r} stands twice' if repeated else 'a column has no name'
        raise ValueError(f'{where} {first + 1}: {fault} in the header {header}')

    reader = csv.reader((line + '\n' for line in lines[first + 1 :]), delimiter=delimiter, strict=True)
    rows, numbers = [], []
    while True:
        number = first + 2 + reader.line_num
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(f'{where} {number}: {error}') from None
        if cells is None:
            return Table(header, rows, numbers)
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise ValueError(f'{where} {number}: expected {len(header)} values as in {header}, got {cells}')
        rows.append(cells)
        numbers.append(number)


def whole_number(text: str) -> int | None:
    """Read a whole number in digits 0 to 9; None for another text: '1_0' and '1.0' are none, '-07' is -7."""
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else None


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Write a table in markdown.

    Args:
        header: names of the columns.
        rows: cells, as many a row as there are names; a ``|`` in them is escaped.
        text_columns: how many columns from the left are aligned left; the others, numbers, right.

    Example:
        >>> print(markdown_table(['loss', 'Recall@1'], [['MS', '82.4']]))
        | loss | Recall@1 |
        |:--|--:|
        | MS | 82.4 |
    """
    header = list(header)
    rule = '|' + '|'.join(':--' if column < text_columns else '--:' for column in range(len(header))) + '|'
    first, *others = (
        '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |' for cells in _equally_long(header, rows)
    )
    return '\n'.join([first, rule, *others])


def plain_table(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Write a table for the terminal: columns padded to one width, two blanks apart. Arguments: `markdown_table`.

    Example:
        >>> print(plain_table(['', 'Recall@1'], [['small', '82.4'], ['large', '9.0']]))
               Recall@1
        small      82.4
        large       9.0
    """
    lines = _equally_long(list(header), rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (
        '  '.join(
            cell.ljust(width) if column < text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in lines
    )
    return '\n'.join(line.rstrip() for line in padded)


def _equally_long(header: list[str], rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """Header and rows in one list.

    Raises:
        ValueError: if a row has more or fewer cells than the header.
    """
    lines = [header, *map(list, rows)]
    for cells in lines:
        if len(cells) != len(header):
            raise ValueError(f'a row has {len(cells)} cells, the header {header} has {len(header)}: {cells}')
    return lines
