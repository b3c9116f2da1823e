"""``mmdml prepare``: a dataset laid out from its official files."""

from collections.abc import Sequence
from typing import Any

import click

from mmdml.cli.options import FiniteRange, debug_option, quiet_loading, refuse_given

_EXAMPLE = """\b
Example:
  mmdml prepare --list
  mmdml prepare CUB200 CUB_200_2011.tgz data/CUB_200_2011
  mmdml prepare OxfordPets downloads data/oxford_pets
  mmdml prepare --resize 256 photos photos-256
"""


@click.command(epilog=_EXAMPLE)
@click.argument('recipe', required=False)
@click.argument('paths', metavar='SOURCE... TARGET', nargs=-1)
@click.option('--list', 'list_recipes', is_flag=True, help='List the recipes, their files and where they come from.')
@click.option(
    '--skip-checks',
    is_flag=True,
    help='Take a repacked or reduced copy, whose checksums and counts are not the official ones.',
)
@click.option('--max-gigabytes', type=FiniteRange(0, min_open=True), help='Refuse an archive that unpacks to more.')
@click.option(
    '--resize',
    type=click.IntRange(1),
    metavar='N',
    help='Copy a folder of pictures with a short side of N pixels, as JPEG of quality 95; lists are copied, too.',
)
@click.option(
    '--significant-bits',
    type=click.IntRange(9, 16),
    metavar='N',
    help='With --resize: bits that 16-bit pictures use which do not say it. Without, nearly black ones are left out.',
)
@debug_option
def prepare(**options: Any) -> None:
    """Lay a dataset out for its class, from its official files.

    SOURCE is a file, or a folder with files; what is missing is downloaded to there where an address is known, and an
    interrupted download continues where it stopped. TARGET appears when it is complete.

    With --resize, SOURCE is any folder of pictures, without a recipe before it. What is larger than training needs
    costs time at every epoch; the originals are not changed, and a run that was stopped goes on. Images that cannot be
    read are named and left out, and the exit code is 1 as long as there are some.
    """
    recipe, paths = options['recipe'], options['paths']
    if options['significant_bits'] is not None and options['resize'] is None:
        raise click.UsageError('--significant-bits belongs to --resize.')
    if options['resize'] is not None:
        refuse_given(('list_recipes', 'skip_checks', 'max_gigabytes'), 'is for official files, not for --resize')
        if len(paths) != 1:
            raise click.UsageError('--resize takes a folder of pictures and the folder to make.')
        from mmdml.cli.errors import run_command

        run_command(lambda: _resize(recipe, paths[0], options['resize'], options['significant_bits']))
        return
    if not options['list_recipes'] and (recipe is None or len(paths) < 2):
        raise click.UsageError('Name a recipe, its files or their folder, and the folder to make (see --list).')
    from mmdml.cli.errors import run_command

    run_command(lambda: _prepare(options))


def _prepare(options: dict[str, Any]) -> None:
    quiet_loading()
    if options['list_recipes']:
        click.echo(recipes_as_text())
        return
    *sources, target = options['paths']
    done, check = prepare_dataset(options['recipe'], sources, target, options['skip_checks'], options['max_gigabytes'])
    click.echo(done)
    click.echo(f'open every image: mmdml verify {check}')


def _resize(source: str, target: str, side: int, significant_bits: int | None) -> None:
    quiet_loading()
    from mmdml.datasets.preparation.resized import resize_folder
    from mmdml.utils.names import printable

    done = resize_folder(source, target, side, significant_bits=significant_bits)
    lists = f'; lists: {len(done.lists)}' if done.lists else ''
    click.echo(f'{done.written:,} images written, {done.there:,} were there{lists}: {printable(target)}')
    for path, outside in done.lists.items():
        if outside:
            click.echo(
                f'{printable(path)}: {outside:,} of its paths lead out of {printable(source)} and stay as they are; '
                'those images were not copied',
                err=True,
            )
    if done.left:
        click.echo(
            f'{printable(target)}: {len(done.left):,} images have no original in {printable(source)} any more; remove '
            f'them: {printable(", ".join(done.left))}',
            err=True,
        )
    if done.broken:
        # All of them, since each has to be replaced or removed.
        for path, problem in done.broken:
            click.echo(f'left out: {printable(path)} {printable(problem)}', err=True)
        listed = ', and from the lists that name them' if done.lists else ''
        raise ValueError(
            f'{len(done.broken):,} of {done.written + done.there + len(done.broken):,} images are left out: '
            f'replace them, or remove them from {printable(source)}{listed}, and run the command again'
        )


def prepare_dataset(
    name: str, sources: Sequence[str], target: str, skip_checks: bool = False, max_gigabytes: float | None = None
) -> tuple[str, str]:
    """Lay out a dataset.

    Args:
        name: of a recipe.
        sources: official files, or folders that hold them.
        target: folder to make.
        skip_checks: leave out checksums and counts.
        max_gigabytes: largest size of what is unpacked. Default: 64 GiB.

    Returns:
        What was done, in words, and the arguments of the command that checks the images.

    Raises:
        ValueError: there is no such recipe; otherwise see
            :func:`~mmdml.datasets.preparation.prepare.prepare`.
    """
    import os.path as osp
    import shlex

    from mmdml.datasets.preparation.archives import MAX_UNPACKED_BYTES
    from mmdml.datasets.preparation.prepare import prepare as lay_out
    from mmdml.datasets.preparation.recipes import RECIPES
    from mmdml.utils.near_names import did_you_mean

    recipe = RECIPES.get(name)
    if recipe is None:
        near = did_you_mean(name, RECIPES) or '.'
        raise ValueError(f'there is no recipe {name!r}{near} The recipes are {", ".join(RECIPES)}')
    limit = MAX_UNPACKED_BYTES if max_gigabytes is None else int(max_gigabytes * 1e9)
    done = lay_out(recipe, sources, target, not skip_checks, limit)
    root = shlex.quote(osp.join(target, recipe.root) if recipe.root else target)
    return done, f'{recipe.dataset} --data-root {root}'


def recipes_as_text() -> str:
    """One paragraph a recipe: its name, official files, page and default target."""
    from mmdml.datasets.preparation.recipes import RECIPES

    lines = ['recipes:']
    for name, recipe in RECIPES.items():
        files = ', '.join(file.name for file in recipe.files)
        fetched = 'downloaded where missing' if all(file.address for file in recipe.files) else 'to be got by hand'
        lines += [f'  {name}', f'    {files} ({fetched})', f'    {recipe.page}', f'    -> {recipe.target}']
    return '\n'.join(lines)
