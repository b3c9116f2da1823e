"""Lay CUB-200-2011 out for ``CUB200``.

    python tools/dataset_converters/prepare_cub200.py CUB_200_2011.tgz data/CUB_200_2011

If the archive (1.1 GB) is not there it is downloaded to that place; an interrupted download goes on where it stopped.
"""

from _recipe import OfficialFile, Recipe, main

PAGE = 'https://data.caltech.edu/records/65de6-vp158'
RECIPE = Recipe(
    dataset='CUB200',
    page=PAGE,
    files=(
        OfficialFile(
            'CUB_200_2011.tgz',
            folder='CUB_200_2011',
            address=f'{PAGE}/files/CUB_200_2011.tgz?download=1',
            checksum='md5:97eceeb196236b17998738112f37df78',
        ),
    ),
    target='data/CUB_200_2011',
    # All classes but one are tested, however few there are.
    reduced=dict(train_classes=1),
)

if __name__ == '__main__':
    main(RECIPE)
