"""Lay Stanford Online Products out for ``StanfordOnlineProducts``.

    python tools/dataset_converters/prepare_sop.py Stanford_Online_Products.zip data/Stanford_Online_Products

If the archive (3.1 GB) is not there it is downloaded to that place; an interrupted download goes on where it stopped.
The authors' address has been reported dead at times; an exact copy is known by its checksum.
"""

from _recipe import OfficialFile, Recipe, main

RECIPE = Recipe(
    dataset='StanfordOnlineProducts',
    page='https://cvgl.stanford.edu/projects/lifted_struct/',
    note='or a copy from elsewhere: an exact one is known by its checksum',
    files=(
        OfficialFile(
            'Stanford_Online_Products.zip',
            folder='Stanford_Online_Products',
            address='http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip',
            checksum='sha256:b04fa78210e69fab050ce73939550e1cd0f96890bdd98ec9fee732c3b756ef48',
        ),
    ),
    target='data/Stanford_Online_Products',
)

if __name__ == '__main__':
    main(RECIPE)
