"""Table of the datasets that can be laid out from their official files.

Addresses and checksums are those that public code (torchvision, TensorFlow Datasets and others) gives for these files.
"""

from mmdml.datasets.preparation.omniglot_archive import pack_drawings
from mmdml.datasets.preparation.prepare import OfficialFile, Recipe

_CUB = 'https://data.caltech.edu/records/65de6-vp158'
_CARS = 'https://ai.stanford.edu/~jkrause/cars/car_dataset.html'
_CARS_NOTE = 'the page has been gone since 2023; an exact copy from elsewhere is known by its checksum'
_FLOWERS = 'https://www.robots.ox.ac.uk/~vgg/data/flowers/102/'
_PETS = 'https://www.robots.ox.ac.uk/~vgg/data/pets/'
_AIRCRAFT = 'https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/'
_DOGS = 'http://vision.stanford.edu/aditya86/ImageNetDogs/'
_OMNIGLOT = 'https://github.com/brendenlake/omniglot'
_OMNIGLOT_FILES = 'https://raw.githubusercontent.com/brendenlake/omniglot/master/python/'

#: Recipes by the name that ``prepare.py`` takes.
RECIPES = {
    'CUB200': Recipe(
        dataset='CUB200',
        page=_CUB,
        files=(
            OfficialFile(
                'CUB_200_2011.tgz',
                folder='CUB_200_2011',
                address=f'{_CUB}/files/CUB_200_2011.tgz?download=1',
                checksum='md5:97eceeb196236b17998738112f37df78',
            ),
        ),
        target='data/CUB_200_2011',
        # All classes but one are tested, however few there are.
        reduced=dict(train_classes=1),
    ),
    'Cars196': Recipe(
        dataset='Cars196',
        page=_CARS,
        note=_CARS_NOTE,
        files=(
            OfficialFile(
                'car_ims.tgz', to='car_ims', folder='car_ims', checksum='md5:d5c8f0aa497503f355e17dc7886c3f14'
            ),
            OfficialFile('cars_annos.mat', to='cars_annos.mat', checksum='md5:b407c6086d669747186bd1d764ff9dbc'),
        ),
        target='data/cars196',
    ),
    # The same images and labels as they are passed on today.
    'Cars196-devkit': Recipe(
        dataset='Cars196',
        page=_CARS,
        note=_CARS_NOTE,
        files=(
            OfficialFile(
                'cars_train.tgz', to='cars_train', folder='cars_train', checksum='md5:065e5b463ae28d29e77c1b4b166cfe61'
            ),
            OfficialFile(
                'cars_test.tgz', to='cars_test', folder='cars_test', checksum='md5:4ce7ebf6a94d07f1952d94dd34c4d501'
            ),
            OfficialFile(
                'car_devkit.tgz', to='devkit', folder='devkit', checksum='md5:c3b158d763b6e2245038c8ad08e45376'
            ),
            OfficialFile(
                'cars_test_annos_withlabels.mat',
                to='cars_test_annos_withlabels.mat',
                checksum='md5:b0a2b23655a3edd16d84508592a98d10',
            ),
        ),
        target='data/cars196',
    ),
    'StanfordOnlineProducts': Recipe(
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
    ),
    'InShop': Recipe(
        dataset='InShop',
        page='https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html',
        note='after their agreement',
        files=(
            OfficialFile('Img/img.zip', to='Img/img', folder='img'),
            OfficialFile('Eval/list_eval_partition.txt', to='Eval/list_eval_partition.txt'),
        ),
        target='data/in_shop',
    ),
    'VehicleID': Recipe(
        dataset='VehicleID',
        page='https://www.pkuml.org/resources/pku-vehicleid.html',
        note='on request',
        files=(OfficialFile('VehicleID_V1.0.zip', folder='VehicleID_V1.0'),),
        target='data/VehicleID_V1.0',
    ),
    'OxfordFlowers102': Recipe(
        dataset='OxfordFlowers102',
        page=_FLOWERS,
        files=(
            OfficialFile(
                '102flowers.tgz',
                to='jpg',
                folder='jpg',
                address=f'{_FLOWERS}102flowers.tgz',
                checksum='sha256:2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246',
            ),
            OfficialFile(
                'imagelabels.mat',
                to='imagelabels.mat',
                address=f'{_FLOWERS}imagelabels.mat',
                checksum='sha256:4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d',
            ),
        ),
        target='data/flowers102',
    ),
    'OxfordPets': Recipe(
        dataset='OxfordPets',
        page=_PETS,
        files=(
            OfficialFile(
                'images.tar.gz',
                to='images',
                folder='images',
                address=f'{_PETS}data/images.tar.gz',
                checksum='md5:5c4f3ee8e5d25df40f4fd59a7f44e54c',
            ),
            OfficialFile(
                'annotations.tar.gz',
                to='annotations',
                folder='annotations',
                address=f'{_PETS}data/annotations.tar.gz',
                checksum='md5:95a8c909bbe2e81eed6a22bccdf3f68f',
            ),
        ),
        target='data/oxford_pets',
    ),
    'FGVCAircraft': Recipe(
        dataset='FGVCAircraft',
        page=_AIRCRAFT,
        files=(
            # The published checksum is of an archive whose size is a whole number of tar records, so it was probably
            # taken after decompression.
            OfficialFile(
                'fgvc-aircraft-2013b.tar.gz',
                folder='fgvc-aircraft-2013b',
                address=f'{_AIRCRAFT}archives/fgvc-aircraft-2013b.tar.gz',
            ),
        ),
        target='data/fgvc-aircraft-2013b',
        root='data',
    ),
    'StanfordDogs': Recipe(
        dataset='StanfordDogs',
        page=_DOGS,
        files=(
            OfficialFile(
                'images.tar',
                to='Images',
                folder='Images',
                address=f'{_DOGS}images.tar',
                checksum='sha256:a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58',
            ),
            OfficialFile(
                'lists.tar',
                folder='',
                address=f'{_DOGS}lists.tar',
                checksum='sha256:34b47cacd9a98b5d150e084f24d29391c084c55272295ec65c85651bc35f4d6c',
            ),
        ),
        target='data/stanford_dogs',
    ),
    'Market1501': Recipe(
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
    ),
    'Food101': Recipe(
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
    ),
    # Only to build the archive of the package again: the class reads that one by default.
    'Omniglot': Recipe(
        dataset='Omniglot',
        page=_OMNIGLOT,
        files=tuple(
            OfficialFile(
                f'{part}.zip', to=part, folder=part, address=f'{_OMNIGLOT_FILES}{part}.zip', checksum=f'md5:{checksum}'
            )
            for part, checksum in (
                ('images_background', '68d2efa1b9178cc56df9314c21c6e718'),
                ('images_evaluation', '6b91aef0f799c5bb55b94e3f2daec811'),
            )
        ),
        target='data/omniglot',
        finish=pack_drawings,
    ),
}
