"""Lay Market-1501 out for ``Market1501``.

    python tools/dataset_converters/prepare_market1501.py Market-1501-v15.09.15.zip data/Market-1501-v15.09.15

The authors share the archive through file-sharing sites only, so nothing is downloaded here.
"""

from _recipe import OfficialFile, Recipe, main

RECIPE = Recipe(
    dataset='Market1501',
    page='https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html',
    note='through the file-sharing sites it names',
    files=(
        OfficialFile(
            'Market-1501-v15.09.15.zip',
            folder='Market-1501-v15.09.15',
            checksum='md5:65005ab7d12ec1c44de4eeafe813e68a',
        ),
    ),
    target='data/Market-1501-v15.09.15',
)

if __name__ == '__main__':
    main(RECIPE)
