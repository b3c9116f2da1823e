"""Prints what a bug report needs: ``python -m mmdml.utils.collect_env``."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import mmdml
from mmdml.compat.distribution_check import RIVALS, installed_names


def collect_env() -> dict[str, str]:
    """Return the versions of everything mmdml stands on, by name.

    mmengine, mmcv and mmpretrain are given with the distribution that each comes from, torchvision with whether it is
    whole or runs without its compiled operators (see :mod:`mmdml.compat.torchvision_compat`).
    """
    return {
        'python': sys.version.replace('\n', ' '),
        'torch': _module_version('torch'),
        'torchvision': _torchvision(),
        **{maintained.removeprefix('onedl-'): _distributions(maintained) for maintained in RIVALS},
        'faiss': _module_version('faiss'),
        'opencv': _module_version('cv2'),
        'mmdml': mmdml.__version__,
        'git commit': git_commit(),
    }


def main() -> None:
    """Print the environment, one name and value per line."""
    for name, value in collect_env().items():
        print(f'{name}: {value}')


def _module_version(name: str) -> str:
    try:
        return import_module(name).__version__
    except Exception as error:  # a report must also come from an environment in which something is broken
        return f'cannot be imported ({type(error).__name__}: {error})'


def _torchvision() -> str:
    found = _module_version('torchvision')
    extension = sys.modules.get('torchvision.extension')
    if 'torchvision' not in sys.modules or extension is None:
        return found
    return f'{found} ({"whole" if extension._has_ops() else "patched: without compiled operators"})'


def _distributions(maintained: str) -> str:
    present = sorted(installed_names() & {maintained, *RIVALS[maintained]})
    return ', '.join(f'{version(name)} (from {name})' for name in present) or 'not installed'


def git_commit() -> str:
    """Return the commit of the checkout that runs, or why there is none."""
    root = Path(mmdml.__file__).resolve().parent.parent
    # Without this, a package installed inside some other repository would report that repository's commit.
    if not (root / '.git').exists():
        return 'not a git checkout'
    command = ['git', '-C', str(root), 'rev-parse', 'HEAD']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f'unknown ({error})'


if __name__ == '__main__':
    main()
