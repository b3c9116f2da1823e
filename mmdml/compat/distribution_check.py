"""Tells from package metadata whether the right OpenMMLab distributions are installed.

The module names mmengine, mmcv and mmpretrain are distributed twice: by the official releases, which do not work with
today's torch and numpy, and by the maintained ``onedl-*`` releases that mmdml depends on. Both write into the same
folders, so installed over each other they leave a mixture of files of two versions.
"""

from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, distribution

#: Maintained distribution -> the official ones that write into the same folder.
RIVALS = {
    'onedl-mmengine': ('mmengine', 'mmengine-lite'),
    'onedl-mmcv': ('mmcv', 'mmcv-lite', 'mmcv-full'),
    'onedl-mmpretrain': ('mmpretrain',),
}


def find_conflicts(installed: Collection[str]) -> list[str]:
    """Describe every official distribution among the installed ones, each with its remedy.

    Args:
        installed: Names of installed distributions, in lower case with dashes.

    Returns:
        One message per conflict; empty where everything is right. A distribution that is simply missing is no conflict:
        its import says so itself.
    """
    messages = []
    for maintained, rivals in RIVALS.items():
        present = [name for name in rivals if name in installed]
        if not present:
            continue
        official = ' and '.join(present)
        if maintained in installed:
            problem = f'{official} and {maintained} are both installed and overwrite each other'
            remove = ' '.join([*present, maintained])
        else:
            problem = f'{official} is installed, but mmdml needs the maintained release {maintained}'
            remove = ' '.join(present)
        messages.append(f'{problem}. Run: pip uninstall -y {remove} && pip install {maintained}')
    return messages


def installed_names() -> set[str]:
    """Return which of the distributions named in :data:`RIVALS` are installed, from metadata only."""
    # Asking for these few names takes under a millisecond; listing every distribution takes fifty.
    candidates = [name for maintained, rivals in RIVALS.items() for name in (maintained, *rivals)]
    return {name for name in candidates if _is_installed(name)}


def check_distributions(installed: Collection[str] | None = None) -> None:
    """Refuse to go on where official and ``onedl-*`` distributions are mixed, or only an official one is there.

    Args:
        installed: Names of installed distributions; read from the metadata when ``None``.

    Raises:
        ImportError: Names the distributions and the commands that put it right.
    """
    conflicts = find_conflicts(installed_names() if installed is None else installed)
    if conflicts:
        raise ImportError('mmdml cannot use this environment:\n' + '\n'.join(f'  - {message}' for message in conflicts))


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
