"""mmdml/utils/tables.py: text of any system and encoding, and what is said of text that cannot be read."""

import os

import pytest

from mmdml.utils.tables import markdown_table, plain_table, read_lines, read_table, whole_number


def write(tmp_path, content, name='x.csv'):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_lines_end_at_line_ends_only_in_every_encoding_with_a_mark(tmp_path, encoding, end):
    lines = ['a\u2028b', 'c\x0cd\x85', ' é ']
    assert read_lines(write(tmp_path, (end.join(lines) + end).encode(encoding))) == lines


def test_other_encodings_are_refused_with_file_line_byte_and_remedy(tmp_path):
    path = write(tmp_path, 'a\nM\xfcll'.encode('latin-1'))
    with pytest.raises(ValueError) as error:
        read_lines(path)
    assert f"{path}, line 2 is not UTF-8: it has the byte b'\\xfc'. Save the file as UTF-8" in str(error.value)
    with pytest.raises(ValueError, match='line 1 is no text: it has a zero byte'):
        read_lines(write(tmp_path, 'ab'.encode('utf-16-le')))


def test_a_folder_or_a_pipe_is_no_file_to_read(tmp_path):
    os.mkfifo(tmp_path / 'pipe.csv')
    for path in (tmp_path, tmp_path / 'pipe.csv', tmp_path / 'none.csv'):
        with pytest.raises(FileNotFoundError, match=f'there is no file {path}'):
            read_table(str(path))


@pytest.mark.parametrize('delimiter', [',', ';', '\t'])
def test_a_table_is_read_whatever_its_delimiter_blanks_and_case(tmp_path, delimiter):
    rows = [[' Path ', 'LABEL'], ['a b.png ', ' 3'], [], ['"c, d; e.png"', '4 ']]
    table = read_table(write(tmp_path, '\n' + '\n'.join(delimiter.join(row) for row in rows) + '\n\n'))
    assert table.header == ['path', 'label']
    assert table.column('path') == ['a b.png', 'c, d; e.png'] and table.column('label') == ['3', '4']
    assert table.lines == [3, 5]
    with pytest.raises(KeyError, match=r"no column 'role', the header has \['path', 'label'\]"):
        table.column('role')


@pytest.mark.parametrize(
    'text, words',
    [
        ('', 'is empty: a table begins with a header'),
        ('\n \n', 'is empty'),
        ('label,path,Label\n1,a,2\n', "line 1: the column 'label' stands twice"),
        ('label,\n1,a\n', 'line 1: a column has no name'),
        ('label,path\n1,a\n\n2\n', r"line 4: expected 2 values as in \['label', 'path'\], got \['2'\]"),
        ('label,path\n1,"a\n', 'line 2: unexpected end of data'),
        ('label\n1\n"2\n3"\nx,y\n', r"line 5: expected 1 values as in \['label'\], got \['x', 'y'\]"),
    ],
)
def test_what_is_no_table_is_named_by_file_and_line(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=f'{path}.*{words}'):
        read_table(path)


@pytest.mark.parametrize(
    'text, number',
    [('10', 10), ('-07', -7), ('+1', 1), ('1_0', None), ('1.0', None), ('', None), ('\u0661', None), (' 1', None)],
)
def test_whole_numbers_are_written_in_digits_alone(text, number):
    assert whole_number(text) == number


def test_tables_are_written_in_markdown_and_for_the_terminal():
    header, rows = ['loss', 'of', 'Recall@1'], [('MS', 'a|b', '82.44'), ('Triplet', '', '9.1')]
    assert markdown_table(header, rows, text_columns=2).splitlines() == [
        '| loss | of | Recall@1 |',
        '|:--|:--|--:|',
        '| MS | a\\|b | 82.44 |',
        '| Triplet |  | 9.1 |',
    ]
    assert plain_table(header, iter(rows), text_columns=2).splitlines() == [
        'loss     of   Recall@1',
        'MS       a|b     82.44',
        'Triplet            9.1',
    ]
    assert markdown_table(['x'], []) == '| x |\n|:--|'


@pytest.mark.parametrize('write', [markdown_table, plain_table])
def test_a_row_of_another_length_than_the_header_is_refused(write):
    with pytest.raises(ValueError, match=r"a row has 1 cells, the header \['a', 'b'\] has 2: \['1'\]"):
        write(['a', 'b'], [['1', '2'], ['1']])


def test_a_header_that_is_too_long_is_named_by_its_line(tmp_path):
    (tmp_path / 'a.csv').write_text('\n' + 'a' * 140_000 + ',path\n')
    with pytest.raises(ValueError, match=r'a.csv, line 2: field larger than field limit'):
        read_table(str(tmp_path / 'a.csv'))
