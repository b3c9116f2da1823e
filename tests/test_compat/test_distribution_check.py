import subprocess
import sys

import pytest

from mmdml.compat.distribution_check import check_distributions, find_conflicts, installed_names

MAINTAINED = {'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain'}


def test_maintained_distributions_alone_are_accepted():
    assert find_conflicts(MAINTAINED | {'torch', 'numpy'}) == []


def test_nothing_installed_is_left_to_the_import_that_needs_it():
    assert find_conflicts(set()) == []


@pytest.mark.parametrize(
    'official, maintained',
    [
        ('mmengine', 'onedl-mmengine'),
        ('mmengine-lite', 'onedl-mmengine'),
        ('mmcv', 'onedl-mmcv'),
        ('mmcv-lite', 'onedl-mmcv'),
        ('mmcv-full', 'onedl-mmcv'),
        ('mmpretrain', 'onedl-mmpretrain'),
    ],
)
def test_official_beside_maintained_is_refused_with_the_remedy(official, maintained):
    with pytest.raises(ImportError) as error:
        check_distributions(MAINTAINED | {official})
    assert f'{official} and {maintained} are both installed' in str(error.value)
    assert f'pip uninstall -y {official} {maintained} && pip install {maintained}' in str(error.value)


def test_official_alone_is_refused_and_names_what_to_install():
    with pytest.raises(ImportError) as error:
        check_distributions({'mmengine', 'onedl-mmcv', 'onedl-mmpretrain'})
    assert 'pip uninstall -y mmengine && pip install onedl-mmengine' in str(error.value)


def test_every_conflict_is_listed():
    assert len(find_conflicts(MAINTAINED | {'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain'})) == 3


def test_this_environment_holds_the_maintained_distributions_only():
    assert installed_names() == MAINTAINED


def test_import_mmdml_stops_where_an_official_distribution_is_installed_over_it(tmp_path):
    metadata = tmp_path / 'mmengine-0.10.7.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text('Metadata-Version: 2.1\nName: mmengine\nVersion: 0.10.7\n')
    code = f'import sys; sys.path.append({str(tmp_path)!r}); import mmdml'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert result.returncode != 0
    assert 'mmengine and onedl-mmengine are both installed' in result.stderr
