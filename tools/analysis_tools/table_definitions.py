"""``experiments/tables.yml``: read, and checked before a table is made of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results import Row
from row_checks import refuse_unknown
from yaml_files import LIST, MAPPING, TEXT, TEXTS, Kind, check_fields, read_yaml

from experiments import planned_runs

_CSV = Kind('a text or a list of texts', lambda value: TEXT.fits(value) or TEXTS.fits(value))
_FILE = {'csv': _CSV, 'tables': MAPPING, 'notes': MAPPING}
_TABLE = {'caption': TEXT, 'command': TEXT, 'columns': LIST, 'rows': LIST}
_SORTED_TABLE = {**_TABLE, 'sort': LIST}
_COLUMN = {
    'header': TEXT,
    'run': TEXT,
    'metric': TEXT,
    'options': MAPPING,
    'digits': Kind('a whole number', lambda value: isinstance(value, int) and not isinstance(value, bool)),
}
_ROW = {'label': TEXT, 'runs': MAPPING}
_RUN = {'config': TEXT, 'name': TEXT, 'options': MAPPING, 'metric': TEXT}


def read_definitions(path: Path) -> dict[str, Any]:
    """Read and check ``experiments/tables.yml``.

    Raises:
        ValueError: for an unknown or missing key or a value of the wrong kind; names file, table, key and remedy.
        FileNotFoundError: if the file is not there.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no {path}: result tables are made in a checkout of mmdml, not in an installed package. Call the '
            'script of the checkout, or name the checkout by --root'
        )
    content = read_yaml(path)
    check_fields(content, _FILE, ('csv', 'tables'), str(path))
    for name, table in content['tables'].items():
        where = f'{path}: table {name}'
        check_fields(table, _SORTED_TABLE, tuple(_TABLE), where)
        for number, column in enumerate(table['columns']):
            check_fields(column, _COLUMN, ('header', 'run', 'metric'), f'{where}: column {number}')
        headers = [column['header'] for column in table['columns']]
        if unknown := [header for header in table.get('sort') or [] if header not in headers]:
            raise ValueError(f'{where}: sort names {unknown}, which are no headers; its columns are {headers}')
        for number, row in enumerate(table['rows']):
            place = f'{where}: row {number}'
            check_fields(row, _ROW, tuple(_ROW), place)
            for column in table['columns']:
                wanted = row['runs'].get(column['run'])
                if not isinstance(wanted, str):
                    run = f'{place}: run {column["run"]}'
                    check_fields(wanted, _RUN, (), run)
                    if ('config' in wanted) == ('name' in wanted):
                        raise ValueError(f'{run}: must have a config, or the name of an item of a plan, got {wanted}')
    return content


def check_runs(content: dict[str, Any], rows: Sequence[Row], path: Path, root: Path) -> None:
    """Check that every run of a table is in the CSV, or may still be made.

    Args:
        content: see `read_definitions`.
        rows: the CSV.
        path: of the definitions; its folder has the plans.
        root: folder of the project, of the configs.

    Raises:
        ValueError: for a name that neither a row nor an item of a plan has, or a config that neither a row has nor is
            there; names file, table and row.
    """
    planned = [run for runs in planned_runs(path.parent).values() for run in runs]
    names = {row['name'] for row in rows} | {run.name for run in planned}
    configs = {row['config'] for row in rows} | {run.config for run in planned}
    for name, table in content['tables'].items():
        for row in table['rows']:
            for column in table['columns']:
                wanted = row['runs'][column['run']]
                where = f'{path}: table {name}: row {row["label"]}: run {column["run"]}'
                if isinstance(wanted, dict) and 'name' in wanted:
                    refuse_unknown(wanted['name'], names, f'{where}: of the items in the CSVs and in the plans beside')
                else:
                    config = wanted if isinstance(wanted, str) else wanted['config']
                    if not (root / config).is_file():
                        refuse_unknown(config, configs, f'{where}: of the configs')
