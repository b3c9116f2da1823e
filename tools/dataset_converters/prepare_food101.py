"""Lay Food-101 out for ``Food101``.

    python tools/dataset_converters/prepare_food101.py food-101.tar.gz data/food-101

If the archive (5.0 GB) is not there it is downloaded to that place; an interrupted download goes on where it stopped.
"""

from _recipe import OfficialFile, Recipe, main

RECIPE = Recipe(
    dataset='Food101',
    page='https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/',
    files=(
        OfficialFile(
            'food-101.tar.gz',
            folder='food-101',
            address='http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz',
            checksum='sha256:d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4',
        ),
    ),
    target='data/food-101',
)

if __name__ == '__main__':
    main(RECIPE)
