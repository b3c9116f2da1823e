"""Lay Oxford-IIIT Pets out for ``OxfordPets``.

    python tools/dataset_converters/prepare_oxford_pets.py downloads data/oxford_pets

What the folder ``downloads`` lacks of ``images.tar.gz`` (792 MB) and ``annotations.tar.gz`` (19 MB) is downloaded to
there; an interrupted download goes on where it stopped.
"""

from _recipe import OfficialFile, Recipe, main

PAGE = 'https://www.robots.ox.ac.uk/~vgg/data/pets/'
RECIPE = Recipe(
    dataset='OxfordPets',
    page=PAGE,
    files=(
        OfficialFile(
            'images.tar.gz',
            to='images',
            folder='images',
            address=f'{PAGE}data/images.tar.gz',
            checksum='md5:5c4f3ee8e5d25df40f4fd59a7f44e54c',
        ),
        OfficialFile(
            'annotations.tar.gz',
            to='annotations',
            folder='annotations',
            address=f'{PAGE}data/annotations.tar.gz',
            checksum='md5:95a8c909bbe2e81eed6a22bccdf3f68f',
        ),
    ),
    target='data/oxford_pets',
)

if __name__ == '__main__':
    main(RECIPE)
