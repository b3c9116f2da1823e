"""Lay FGVC-Aircraft out for ``FGVCAircraft``.

    python tools/dataset_converters/prepare_fgvc_aircraft.py fgvc-aircraft-2013b.tar.gz data/fgvc-aircraft-2013b

If the archive (2.8 GB) is not there it is downloaded to that place; an interrupted download goes on where it stopped.
No checksum is known for certain: the published one is that of an archive of which the size is a whole number of tar
records, so it was probably taken after decompression.
"""

from _recipe import OfficialFile, Recipe, main

PAGE = 'https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/'
RECIPE = Recipe(
    dataset='FGVCAircraft',
    page=PAGE,
    files=(
        OfficialFile(
            'fgvc-aircraft-2013b.tar.gz',
            folder='fgvc-aircraft-2013b',
            address=f'{PAGE}archives/fgvc-aircraft-2013b.tar.gz',
        ),
    ),
    target='data/fgvc-aircraft-2013b',
    root='data',
)

if __name__ == '__main__':
    main(RECIPE)
