"""Lay Cars-196 out for ``Cars196``.

    python tools/dataset_converters/prepare_cars196.py downloads data/cars196

The folder ``downloads`` must hold ``car_ims.tgz`` (1.9 GB) and ``cars_annos.mat``. Their official addresses have been
dead since 2023 (https://github.com/pytorch/vision/issues/7545); an exact copy is known by its checksum.
"""

from _recipe import OfficialFile, Recipe, main

RECIPE = Recipe(
    dataset='Cars196',
    page='https://ai.stanford.edu/~jkrause/cars/car_dataset.html',
    note='the page has been gone since 2023; an exact copy from elsewhere is known by its checksum',
    files=(
        OfficialFile('car_ims.tgz', to='car_ims', folder='car_ims', checksum='md5:d5c8f0aa497503f355e17dc7886c3f14'),
        OfficialFile('cars_annos.mat', to='cars_annos.mat', checksum='md5:b407c6086d669747186bd1d764ff9dbc'),
    ),
    target='data/cars196',
)

if __name__ == '__main__':
    main(RECIPE)
