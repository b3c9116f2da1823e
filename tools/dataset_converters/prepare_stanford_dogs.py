"""Lay Stanford Dogs out for ``StanfordDogs``.

    python tools/dataset_converters/prepare_stanford_dogs.py downloads data/stanford_dogs

What the folder ``downloads`` lacks of ``images.tar`` (794 MB) and ``lists.tar`` (0.5 MB) is downloaded to there; an
interrupted download goes on where it stopped.
"""

from _recipe import OfficialFile, Recipe, main

PAGE = 'http://vision.stanford.edu/aditya86/ImageNetDogs/'
RECIPE = Recipe(
    dataset='StanfordDogs',
    page=PAGE,
    files=(
        OfficialFile(
            'images.tar',
            to='Images',
            folder='Images',
            address=f'{PAGE}images.tar',
            checksum='sha256:a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58',
        ),
        OfficialFile(
            'lists.tar',
            folder='',
            address=f'{PAGE}lists.tar',
            checksum='sha256:34b47cacd9a98b5d150e084f24d29391c084c55272295ec65c85651bc35f4d6c',
        ),
    ),
    target='data/stanford_dogs',
)

if __name__ == '__main__':
    main(RECIPE)
