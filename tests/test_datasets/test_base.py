import logging
import os
import random
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from mmdml.datasets import Draw, ImageList, RetrievalConcatDataset, UnreadableImageError
from mmdml.datasets.augmentation_seed import augmentation_seed
from mmdml.registry import DATASETS


def draw_noise(results):
    """An augmentation that shows all three generators."""
    noise = (random.random(), float(np.random.random_sample()), float(torch.rand(())))
    return dict(sample_idx=results['sample_idx'], label=results['gt_label'], path=results['img_path'], noise=noise)


LOAD = dict(type='LoadImageFromFile')


def keep(results):
    return dict(sample_idx=results['sample_idx'], label=results['gt_label'], path=results['img_path'])


@pytest.fixture
def listing(tmp_path):
    """Ten classes 'c0'..'c9' of three pictures each."""
    lines = []
    for label in range(10):
        for number in range(3):
            name = f'c{label}_{number}.png'
            cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), 20 * label + number, np.uint8))
            lines.append(f'{name} c{label}')
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    return tmp_path


def build(root, **options):
    return ImageList(ann_file='list.txt', data_root=str(root), **options)


def items_equal(left, right):
    return [left[i] for i in range(len(left))] == [right[i] for i in range(len(right))]


def test_data_info_holds_path_label_role_and_running_index(listing):
    info = build(listing).get_data_info(7)
    assert info == dict(img_path=str(listing / 'c2_1.png'), gt_label=2, role=0, sample_idx=7)


def test_labels_are_int64_of_every_image_and_need_no_image(listing):
    dataset = build(listing)
    for picture in listing.glob('*.png'):
        picture.unlink()
    assert dataset.labels.dtype == np.int64
    assert dataset.labels.tolist() == np.repeat(np.arange(10), 3).tolist()


def test_labels_cannot_be_changed_from_outside(listing):
    with pytest.raises(ValueError, match='read-only'):
        build(listing).labels[0] = 5


def test_metainfo_names_the_classes_and_counts_the_images(listing):
    meta = build(listing, metainfo=dict(source='here')).metainfo
    assert meta['classes'] == [f'c{i}' for i in range(10)]
    assert meta['num_images'] == 30
    assert meta['source'] == 'here'


@pytest.mark.parametrize('serialize_data', [True, False])
def test_serialised_and_plain_annotations_agree(listing, serialize_data):
    dataset = build(listing, serialize_data=serialize_data)
    assert dataset.get_data_info(29)['img_path'] == str(listing / 'c9_2.png')
    assert len(dataset) == 30


def test_lazy_init_reads_labels_when_they_are_asked_for(listing):
    dataset = build(listing, lazy_init=True)
    assert not dataset._fully_initialized
    assert len(dataset.labels) == 30
    assert dataset.metainfo['num_images'] == 30


@pytest.mark.parametrize('val_classes', [0.2, 2])
def test_validation_takes_the_last_classes_and_training_the_rest(listing, val_classes):
    train = build(listing, split='train', val_classes=val_classes)
    val = build(listing, split='val', val_classes=val_classes)
    assert train.metainfo['classes'] == [f'c{i}' for i in range(8)]
    assert val.metainfo['classes'] == ['c8', 'c9']
    assert sorted(set(val.labels.tolist())) == [0, 1]
    assert len(train) + len(val) == 30


def test_seeded_validation_classes_are_disjoint_complete_and_repeatable(listing):
    parts = [build(listing, split=split, val_classes=3, val_seed=5).metainfo['classes'] for split in ('train', 'val')]
    assert sorted(parts[0] + parts[1]) == [f'c{i}' for i in range(10)]
    assert len(parts[1]) == 3
    assert build(listing, split='val', val_classes=3, val_seed=5).metainfo['classes'] == parts[1]
    assert build(listing, split='val', val_classes=3, val_seed=6).metainfo['classes'] != parts[1]


def test_few_images_of_each_class_are_drawn_and_fewer_are_a_part_of_more(listing):
    kept = [build(listing, max_per_class=most, images_seed=1) for most in (1, 2, 3)]
    assert [np.bincount(dataset.labels).tolist() for dataset in kept] == [[1] * 10, [2] * 10, [3] * 10]
    one, two, everything = ([dataset.get_data_info(row)['img_path'] for row in range(len(dataset))] for dataset in kept)
    assert set(one) < set(two) < set(everything) and two == sorted(two)
    other = build(listing, max_per_class=1, images_seed=2)
    assert one != [other.get_data_info(row)['img_path'] for row in range(10)]
    held_out = build(listing, split='val', val_classes=2, max_per_class=2)
    assert held_out.metainfo['classes'] == ['c8', 'c9'] and held_out.labels.tolist() == [0, 0, 1, 1]
    # Of 2.5 images each class would have 3.
    for most in (0, 2.5, True, '2'):
        with pytest.raises(ValueError, match=f'max_per_class must be an integer of at least 1, .* got {most!r}'):
            build(listing, max_per_class=most)


def test_test_split_ignores_val_classes(listing):
    assert len(build(listing, split='test', val_classes=0.5)) == 30


@pytest.mark.parametrize('val_classes', [10, -1, -0.1, 1.0, 1.5])
def test_val_classes_must_leave_classes_on_both_sides(listing, val_classes):
    with pytest.raises(ValueError, match=f'val_classes={val_classes} .*at least one class'):
        build(listing, val_classes=val_classes)


@pytest.mark.parametrize('val_classes', ['two', '2', True, [2]])
def test_val_classes_that_are_no_number_are_named(listing, val_classes):
    with pytest.raises(ValueError, match=re.escape(f'a number (an int) of classes, got {val_classes!r}')):
        build(listing, val_classes=val_classes)


def test_val_split_without_val_classes_is_an_error(listing):
    with pytest.raises(ValueError, match="split='val' needs val_classes"):
        build(listing, split='val')


@pytest.mark.parametrize('option', [dict(split='training'), dict(on_unreadable='skip'), dict(seed=-1)])
def test_unknown_option_values_are_named(listing, option):
    (name, value), *_ = option.items()
    with pytest.raises(ValueError, match=f'{name}={value!r}'):
        build(listing, **option)


def test_wrong_image_folder_is_an_error_before_any_image_is_read(listing):
    with pytest.raises(FileNotFoundError, match='elsewhere'):
        build(listing, data_prefix='elsewhere')


def test_same_seed_gives_same_augmentation_and_other_seed_another(listing):
    assert items_equal(build(listing, pipeline=[draw_noise], seed=3), build(listing, pipeline=[draw_noise], seed=3))
    assert build(listing, pipeline=[draw_noise], seed=3)[0] != build(listing, pipeline=[draw_noise], seed=4)[0]


def test_augmentation_differs_between_images_and_epochs_and_repeats(listing):
    dataset = build(listing, pipeline=[draw_noise], seed=3)
    noises = [dataset[0]['noise'], dataset[1]['noise'], dataset[Draw(0, repeat=1)]['noise']]
    dataset.set_epoch(1)
    noises.append(dataset[0]['noise'])
    for stream in zip(*noises, strict=True):
        assert len(set(stream)) == 4
    dataset.set_epoch(0)
    assert dataset[0]['noise'] == noises[0]


def test_without_seed_the_global_generator_decides(listing):
    dataset = build(listing, pipeline=[draw_noise])
    np.random.seed(0)
    first = dataset[0]['noise'][1]
    assert dataset[0]['noise'][1] != first
    np.random.seed(0)
    assert dataset[0]['noise'][1] == first


def test_repeated_image_keeps_its_index(listing):
    item = build(listing, pipeline=[draw_noise], seed=0)[Draw(4, repeat=2)]
    assert item['sample_idx'] == 4
    assert type(item['sample_idx']) is int


@pytest.mark.parametrize('persistent', [False, True])
def test_workers_and_their_persistence_do_not_matter(listing, persistent):
    expected, got = [], []
    plain = build(listing, pipeline=[draw_noise], seed=1)
    worked = build(listing, pipeline=[draw_noise], seed=1)
    options = dict(batch_size=5, collate_fn=list)
    loader = DataLoader(worked, num_workers=2, persistent_workers=persistent, **options)
    for epoch in (0, 1):
        plain.set_epoch(epoch)
        worked.set_epoch(epoch)
        expected.append([item for batch in DataLoader(plain, **options) for item in batch])
        got.append([item for batch in loader for item in batch])
    assert got == expected
    assert expected[0][0]['noise'] != expected[1][0]['noise']


def test_augmentation_seed_restores_the_outer_generators():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    outer = random.random(), np.random.random_sample(), torch.rand(2).tolist()
    expected = random.random(), np.random.random_sample(), torch.rand(2).tolist()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert (random.random(), np.random.random_sample(), torch.rand(2).tolist()) == outer
    with pytest.raises(KeyError), augmentation_seed(0, 1, 2):
        random.random(), np.random.random_sample(), torch.rand(2)
        raise KeyError
    assert (random.random(), np.random.random_sample(), torch.rand(2).tolist()) == expected


def test_nested_augmentation_seeds_do_not_disturb_one_another():
    with augmentation_seed(0, 0, 0):
        straight = np.random.random_sample(4).tolist()
    with augmentation_seed(0, 0, 0):
        nested = np.random.random_sample(2).tolist()
        with augmentation_seed(0, 0, 1):
            inner = np.random.random_sample()
        nested += np.random.random_sample(2).tolist()
    assert nested == straight
    assert inner not in straight


def test_view_with_another_pipeline_shares_images_and_not_the_epoch(listing):
    dataset = build(listing, pipeline=[draw_noise], seed=0)
    view = dataset.with_pipeline([keep])
    view.set_epoch(9)
    assert dataset.epoch == 0
    assert view.data_bytes is dataset.data_bytes
    assert view[3] == dict(sample_idx=3, label=1, path=str(listing / 'c1_0.png'))
    assert 'noise' in dataset[3]


def test_subset_keeps_labels_and_does_not_touch_the_whole(listing):
    dataset = build(listing)
    subset = dataset.get_subset([29, 0])
    subset.set_epoch(4)
    assert subset.labels.tolist() == [9, 0]
    assert len(dataset.labels) == 30
    assert dataset.epoch == 0
    dataset.get_subset_(4)
    assert dataset.labels.tolist() == [0, 0, 0, 1]


def test_unreadable_image_stops_and_is_named(listing):
    (listing / 'c1_0.png').write_bytes(b'not a picture')
    dataset = build(listing, pipeline=[LOAD, keep])
    with pytest.raises(UnreadableImageError, match=r'c1_0\.png \(index 3 of ImageList\): \w+'):
        dataset[3]
    assert dataset[2]['label'] == 0


def test_unreadable_image_is_named_through_a_worker_process(listing):
    (listing / 'c1_0.png').write_bytes(b'not a picture')
    dataset = build(listing, pipeline=[LOAD, keep])
    batches = iter(DataLoader(dataset, sampler=[3], num_workers=1, collate_fn=list))
    with pytest.raises(UnreadableImageError, match=r'c1_0\.png \(index 3'):
        next(batches)
    # The traceback keeps the loader alive; waiting for the garbage collector would take seconds.
    batches._shutdown_workers()


def test_pipeline_that_returns_none_is_an_unreadable_image(listing):
    with pytest.raises(UnreadableImageError, match=r'returned None for image .*c0_0\.png \(index 0\)'):
        build(listing, pipeline=[lambda results: None])[0]


@pytest.fixture
def warnings_seen():
    messages = []

    class Collect(logging.Handler):
        def emit(self, record):
            messages.append((record.levelname, record.getMessage()))

    handler = Collect(level=logging.WARNING)
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


@pytest.mark.parametrize('concatenated', [False, True])
def test_reading_annotations_at_first_use_is_not_worth_a_warning(listing, warnings_seen, concatenated):
    def lazy():
        part = build(listing, lazy_init=True, pipeline=[keep])
        return RetrievalConcatDataset([part], label_space='shared', lazy_init=True) if concatenated else part

    assert len(lazy().labels) == lazy().metainfo['num_images'] == len(lazy().with_pipeline()) == 30
    assert lazy()[4]['label'] == 1
    assert warnings_seen == []


def test_same_class_replacement_is_the_next_readable_image_under_its_own_index(listing, warnings_seen):
    (listing / 'c1_2.png').unlink()
    (listing / 'c1_0.png').write_bytes(b'')
    dataset = build(listing, pipeline=[LOAD, keep], on_unreadable='same_class')
    expected = dict(sample_idx=4, label=1, path=str(listing / 'c1_1.png'))
    assert [dataset[3], dataset[3], dataset[5]] == [expected] * 3
    assert [level for level, _ in warnings_seen] == ['WARNING'] * 2
    assert 'c1_0.png' in warnings_seen[0][1] and 'showing' in warnings_seen[0][1] and 'c1_1.png' in warnings_seen[0][1]
    assert 'c1_2.png' in warnings_seen[1][1]


def test_same_class_replacement_gets_an_augmentation_of_its_own(listing):
    def fail_on_first(results):
        if results['img_path'].endswith('c1_0.png'):
            raise OSError('broken')
        return draw_noise(results)

    dataset = build(listing, pipeline=[fail_on_first], on_unreadable='same_class', seed=0)
    assert dataset[3]['sample_idx'] == dataset[4]['sample_idx'] == 4
    assert dataset[3]['noise'] == dataset[3]['noise']
    seen = [dataset[draw]['noise'] for draw in (3, 4, Draw(3, 1), Draw(3, 2), Draw(4, 1))]
    assert len(set(seen)) == 5


def test_class_without_any_readable_image_stops(listing):
    for number in range(3):
        (listing / f'c1_{number}.png').unlink()
    dataset = build(listing, pipeline=[LOAD, keep], on_unreadable='same_class')
    with pytest.raises(UnreadableImageError, match=r'c1_1\.png.*no other image that can be read'):
        dataset[4]


def test_replacing_images_while_testing_is_refused(listing):
    with pytest.raises(ValueError, match='test_mode'):
        build(listing, test_mode=True, on_unreadable='same_class')


def test_sixty_thousand_images_have_labels_and_infos(tmp_path):
    cv2.imwrite(str(tmp_path / '0.png'), np.zeros((4, 4), np.uint8))
    (tmp_path / 'list.txt').write_text('\n'.join(f'{i}.png {i // 5}' for i in range(60_000)))
    dataset = build(tmp_path)
    assert len(dataset) == 60_000
    assert dataset.labels[-1] == dataset.get_data_info(-1)['gt_label'] == 11_999


# ------------------------------------------------------------------------------------------------ concatenation


def concat(root, label_space, first, second, **options):
    configs = [
        dict(type='ImageList', ann_file='list.txt', data_root=str(root), **part, **options) for part in (first, second)
    ]
    return DATASETS.build(dict(type='RetrievalConcatDataset', datasets=configs, label_space=label_space))


def test_concatenation_counts_images_and_labels_over_all_parts(listing):
    dataset = concat(listing, 'disjoint', dict(val_classes=2), dict(val_classes=2, split='val'), pipeline=[keep])
    assert len(dataset) == 30
    assert [dataset[i]['sample_idx'] for i in range(30)] == list(range(30))
    assert [dataset[i]['label'] for i in range(30)] == dataset.labels.tolist()
    assert dataset.labels.tolist() == np.repeat(np.arange(10), 3).tolist()
    assert dataset.metainfo['classes'] == [f'c{i}' for i in range(10)]
    assert dataset.metainfo['num_images'] == 30
    assert dataset.get_data_info(-1)['sample_idx'] == 29


def test_shared_label_space_joins_classes_by_name(listing):
    dataset = concat(listing, 'shared', first=dict(split='val', val_classes=3), second=dict())
    assert dataset.metainfo['classes'] == ['c7', 'c8', 'c9'] + [f'c{i}' for i in range(7)]
    assert dataset.labels[:9].tolist() == dataset.labels[-9:].tolist() == np.repeat(np.arange(3), 3).tolist()
    assert dataset.get_data_info(9)['gt_label'] == 3


def test_disjoint_label_space_keeps_equal_names_apart(listing):
    dataset = concat(listing, 'disjoint', first=dict(), second=dict())
    assert len(dataset.metainfo['classes']) == 20
    assert dataset.labels[30:].tolist() == (dataset.labels[:30] + 10).tolist()


def test_concatenation_leaves_its_parts_as_they_were(listing):
    parts = [build(listing, pipeline=[keep]), build(listing, pipeline=[keep])]
    joined = RetrievalConcatDataset(parts, label_space='disjoint')
    assert joined[40]['sample_idx'] == 40
    assert parts[1][10]['sample_idx'] == 10
    assert parts[1].labels.max() == 9


def test_concatenated_parts_are_augmented_by_the_running_index_epoch_and_repeat(listing):
    dataset = concat(listing, 'disjoint', first=dict(), second=dict(), pipeline=[draw_noise], seed=1)
    whole = build(listing, pipeline=[draw_noise], seed=1)
    assert dataset[0]['noise'] == whole[0]['noise']
    noises = [dataset[0]['noise'], dataset[30]['noise'], dataset[Draw(30, repeat=1)]['noise']]
    dataset.set_epoch(2)
    noises.append(dataset[30]['noise'])
    dataset.set_seed(7)
    noises.append(dataset[30]['noise'])
    assert len(set(noises)) == 5
    assert dataset.epoch == 2


def test_concatenation_offers_a_view_with_another_pipeline(listing):
    dataset = concat(listing, 'disjoint', first=dict(), second=dict(), pipeline=[draw_noise], seed=1)
    view = dataset.with_pipeline([keep])
    assert view[59] == dict(sample_idx=59, label=19, path=str(listing / 'c9_2.png'))
    assert view.labels.tolist() == dataset.labels.tolist()


def test_concatenation_replaces_unreadable_images_in_the_running_index(listing):
    (listing / 'c1_0.png').unlink()
    pipeline = [LOAD, keep]
    dataset = concat(listing, 'disjoint', dict(), dict(), pipeline=pipeline, on_unreadable='same_class')
    assert dataset[33] == dict(sample_idx=34, label=11, path=str(listing / 'c1_1.png'))


def test_concatenation_names_bad_parts_and_label_spaces(listing):
    with pytest.raises(ValueError, match="label_space='both'"):
        concat(listing, 'both', dict(), dict())
    with pytest.raises(ValueError, match='at least one'):
        RetrievalConcatDataset([], label_space='shared')
    with pytest.raises(TypeError, match='list'):
        RetrievalConcatDataset([[1, 2]], label_space='shared')


def test_a_view_with_the_own_pipeline_keeps_the_pipelines_of_all_parts(tmp_path):
    parts = []
    for number in range(2):
        for label in ('a', 'b'):
            folder = tmp_path / str(number) / label
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / '1.png'), np.full((8, 8), 40 * (number + 1), np.uint8))
        scale = dict(type='LoadImageFromFile', color_type='grayscale' if number else 'color')
        parts.append(dict(type='ImageFolder', data_root=str(tmp_path / str(number)), pipeline=[scale]))
    whole = DATASETS.build(dict(type='RetrievalConcatDataset', label_space='shared', datasets=parts))
    view = whole.with_pipeline()
    view.set_epoch(5)
    assert [view[i]['img'].ndim for i in range(4)] == [3, 3, 2, 2]
    assert whole.epoch == 0 and whole.split == 'train'


def test_roles_of_the_parts_make_queries_and_a_gallery_of_two_lists(listing):
    parts = [dict(type='ImageList', ann_file='list.txt', data_root=str(listing), pipeline=[keep])] * 2
    joined = DATASETS.build(
        dict(type='RetrievalConcatDataset', datasets=parts, label_space='shared', roles=['query', 'gallery'])
    )
    assert [joined.get_data_info(i)['role'] for i in (0, 29, 30, 59)] == [1, 1, 2, 2]
    assert joined.metainfo['has_roles'] and not RetrievalConcatDataset(joined.datasets, 'shared').roles
    with pytest.raises(ValueError, match=r"roles=\['query'\] must have one of .* for each of the 2 datasets"):
        DATASETS.build(dict(type='RetrievalConcatDataset', datasets=parts, label_space='shared', roles=['query']))
    with pytest.raises(ValueError, match='probe'):
        DATASETS.build(
            dict(type='RetrievalConcatDataset', datasets=parts, label_space='shared', roles=['probe', 'gallery'])
        )


def test_one_image_in_two_parts_has_one_label(listing):
    (listing / 'other.txt').write_text('c0_0.png c5\n')
    parts = [dict(type='ImageList', ann_file=name, data_root=str(listing)) for name in ('list.txt', 'other.txt')]
    with pytest.raises(ValueError, match=r'c0_0\.png and .*c0_0\.png are one image, but have the labels c0 and c5'):
        DATASETS.build(dict(type='RetrievalConcatDataset', datasets=parts, label_space='shared'))


def test_columns_and_summaries_of_parts_are_joined(listing):
    for name, cameras in (('one.csv', 'ab'), ('two.csv', 'cd')):
        rows = [f'c0_{i}.png,c0,{camera},{i}' for i, camera in enumerate(cameras)]
        header = 'path,label,camera,extra' if name == 'one.csv' else 'path,label,camera,other'
        (listing / name).write_text('\n'.join([header, *rows]))
    parts = [dict(type='ImageList', ann_file=name, data_root=str(listing)) for name in ('one.csv', 'two.csv')]
    joined = DATASETS.build(dict(type='RetrievalConcatDataset', datasets=parts, label_space='shared'))
    assert {name: values.tolist() for name, values in joined.columns.items()} == dict(camera=['a', 'b', 'c', 'd'])
    assert str(joined.summary) == (
        'together: 4 images of 1 class (ImageList train: 2 images of 1 class; ImageList train: 2 images of 1 class)'
    )


def test_images_without_labels_stay_without_in_a_concatenation(listing):
    (listing / 'bare.txt').write_text('c0_0.png\n')
    bare = ImageList(ann_file='bare.txt', data_root=str(listing), unlabeled=True)
    joined = RetrievalConcatDataset([bare, bare], 'shared')
    assert joined.labels.tolist() == [-1, -1] and joined.get_data_info(1)['gt_label'] == -1
    assert joined.metainfo['unlabeled'] and joined.metainfo['classes'] == []


def test_a_pipe_in_a_list_is_refused_and_not_read(listing):
    (listing / 'c0_0.png').unlink()
    os.mkfifo(listing / 'c0_0.png')
    with pytest.raises(UnreadableImageError, match=r'c0_0\.png is a pipe, not a picture'):
        build(listing, pipeline=[LOAD])[0]
    (listing / 'c0_0.png').unlink()
    (listing / 'c0_0.png').symlink_to('/dev/zero')
    with pytest.raises(UnreadableImageError, match=r'c0_0\.png is a device, not a picture'):
        build(listing, pipeline=[LOAD])[0]
