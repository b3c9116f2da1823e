"""Lay In-shop Clothes Retrieval (DeepFashion) out for ``InShop``.

    python tools/dataset_converters/prepare_inshop.py downloads data/in_shop

The authors give the files away after an agreement, so nothing is downloaded here: the folder ``downloads`` must hold
their ``Img/img.zip`` and ``Eval/list_eval_partition.txt``, with or without the folders. No checksum is known for
certain.
"""

from _recipe import OfficialFile, Recipe, main

RECIPE = Recipe(
    dataset='InShop',
    page='https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html',
    note='after their agreement',
    files=(
        OfficialFile('Img/img.zip', to='Img/img', folder='img'),
        OfficialFile('Eval/list_eval_partition.txt', to='Eval/list_eval_partition.txt'),
    ),
    target='data/in_shop',
)

if __name__ == '__main__':
    main(RECIPE)
