"""The checkpoints in the folder of a run: which there are, and which is the newest whole one."""

import re
import zipfile
from pathlib import Path

from mmengine.hooks import CheckpointHook

from mmdml.utils.files import write_atomically

_POINTER = 'last_checkpoint'
_OF_ANY_RUN = ('epoch_*.pth', 'iter_*.pth', 'best_*.pth')


class CheckpointFolder:
    """Numbered checkpoints of one run in its work dir.

    ``last_checkpoint`` names the newest one, without its folder, so that a copied or moved work dir names its own.
    It is written for people and scripts; what there is to resume is read from the folder itself.

    Args:
        folder: work dir of the run.
        template: name of a checkpoint, with ``{}`` for the epoch or iteration.
    """

    def __init__(self, folder: str | Path, template: str = 'epoch_{}.pth') -> None:
        self.folder = Path(folder)
        self.template = template

    def numbered(self) -> dict[int, Path]:
        """Paths by epoch or iteration, newest first."""
        before, after = (re.escape(part) for part in self.template.split('{}'))
        pattern = re.compile(rf'{before}(\d+){after}')
        files = [(pattern.fullmatch(file.name), file) for file in self.folder.glob('*') if file.is_file()]
        return dict(sorted(((int(match[1]), file) for match, file in files if match), reverse=True))

    def of_any_run(self) -> list[Path]:
        """All checkpoints that this run or another one has left here, oldest first."""
        found = {file for pattern in _OF_ANY_RUN for file in self.folder.glob(pattern)}
        return sorted(found | set(self.numbered().values()), key=lambda file: (file.stat().st_mtime_ns, file.name))

    def newest_whole(self) -> tuple[Path | None, list[str]]:
        """Return the newest checkpoint that can be read to its end, or None; and which were skipped, and why."""
        skipped, chosen = [], None
        for file in self.numbered().values():
            fault = _fault(file)
            if fault is None:
                chosen = file
                break
            skipped.append(f'{file.name} ({fault})')
        pointer = self.folder / _POINTER
        named = pointer.read_text(errors='replace').strip() if pointer.is_file() else None
        if named and (chosen is None or Path(named).name != chosen.name) and not any(named in each for each in skipped):
            there = (self.folder / Path(named).name).is_file()
            skipped.append(f'{_POINTER} (names {named}, which is {"not the newest" if there else "not here"})')
        return chosen, skipped

    def point_to(self, name: str) -> None:
        """Write which checkpoint is the newest."""
        with write_atomically(self.folder / _POINTER, 'w') as file:
            file.write(name)


def checkpoint_folder_of(runner) -> CheckpointFolder:
    """Return the checkpoints of a Runner, by the names that its hook gives them."""
    templates = [hook.filename_tmpl for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return CheckpointFolder(runner.work_dir, *templates[:1])


def _fault(file: Path) -> str | None:
    """Why a file of ``torch.save`` is not whole; None if it is."""
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except Exception as error:  # one flipped bit makes a name undecodable, an entry encrypted, a method unknown, ...
        return f'not a whole file: {error}'
    return None if damaged is None else f'damaged at {damaged}'
