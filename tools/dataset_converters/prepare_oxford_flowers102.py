"""Lay Oxford 102 Flowers out for ``OxfordFlowers102``.

    python tools/dataset_converters/prepare_oxford_flowers102.py downloads data/flowers102

What the folder ``downloads`` lacks of ``102flowers.tgz`` (345 MB) and ``imagelabels.mat`` is downloaded to there; an
interrupted download goes on where it stopped.
"""

from _recipe import OfficialFile, Recipe, main

PAGE = 'https://www.robots.ox.ac.uk/~vgg/data/flowers/102/'
RECIPE = Recipe(
    dataset='OxfordFlowers102',
    page=PAGE,
    files=(
        OfficialFile(
            '102flowers.tgz',
            to='jpg',
            folder='jpg',
            address=f'{PAGE}102flowers.tgz',
            checksum='sha256:2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246',
        ),
        OfficialFile(
            'imagelabels.mat',
            to='imagelabels.mat',
            address=f'{PAGE}imagelabels.mat',
            checksum='sha256:4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d',
        ),
    ),
    target='data/flowers102',
)

if __name__ == '__main__':
    main(RECIPE)
