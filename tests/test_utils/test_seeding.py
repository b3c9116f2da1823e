import re
from enum import Enum
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import mmdml
from mmdml.utils.seeding import Stream, derive_seed, numpy_generator, torch_generator


def test_no_two_streams_seeds_or_keys_meet_whatever_their_lengths():
    keys = [key for length in range(4) for key in product((0, 1, 2, 17, 2**32, 2**32 + 1, 2**63 - 1), repeat=length)]
    arguments = list(product(Stream, (0, 1, 17, 2**32), keys))
    seeds = {derive_seed(stream, seed, *key) for stream, seed, key in arguments}
    assert len(seeds) == len(arguments) and all(0 <= seed < 2**63 for seed in seeds)


def test_values_of_the_streams_are_distinct_and_none_begins_another_with_its_ending_mark():
    values = [stream.value for stream in Stream]
    assert len(set(values)) == len(values) and not any('\0' in value for value in values)


@pytest.mark.parametrize(
    'stream, keys, golden',
    [
        (Stream.GLOBAL, (0, 0, 0), 1206445468805235650),
        (Stream.AUGMENTATION, (1, 2, 3, 4), 5935169929147132000),
        (Stream.BATCHES, (0,), 3818693956366233405),
        (Stream.BATCHES, (0, 0), 3934212384051104208),
        (Stream.IAA_NOISE, (2147483648, 1000000), 2360652397728720663),
        (Stream.KMEANS, (7,), 8236731558979299506),
    ],
)
def test_seeds_are_the_same_on_every_machine_and_in_every_release(stream, keys, golden):
    assert derive_seed(stream, *keys) == golden


def test_a_seed_of_the_global_generators_is_not_the_noise_of_iaa_at_any_epoch_and_rank():
    # SeedSequence((seed, 17, rank)) of epoch 17 was the noise of IAA at iteration `rank`.
    steps = range(40)
    assert not {derive_seed(Stream.GLOBAL, 0, epoch, rank) for epoch in steps for rank in range(8)} & {
        derive_seed(Stream.IAA_NOISE, 0, step) for step in steps
    }


@pytest.mark.parametrize('numbers', [(-1,), (2**63,), (0, -1), (0, 2**63)])
def test_numbers_out_of_range_are_refused_by_stream_and_value(numbers):
    with pytest.raises(ValueError, match=f"'batches' must be in 0..2\\^63-1, got {numbers[-1]}"):
        derive_seed(Stream.BATCHES, *numbers)


def test_fractions_and_bare_names_are_refused_and_numpy_integers_taken():
    with pytest.raises(TypeError):
        derive_seed(Stream.BATCHES, 0.5)
    with pytest.raises(TypeError, match='member of Stream'):
        derive_seed('batches', 0)
    assert derive_seed(Stream.BATCHES, np.int64(3), np.uint32(4)) == derive_seed(Stream.BATCHES, 3, 4)


def test_another_project_brings_streams_of_its_own():
    class Own(Enum):
        DRAWS = 'my_project.draws'

    assert derive_seed(Own.DRAWS, 0) not in {derive_seed(stream, 0) for stream in Stream}


def test_generators_start_at_the_derived_seed():
    seed = derive_seed(Stream.MINING, 5, 6)
    assert torch_generator(Stream.MINING, 5, 6).initial_seed() == seed
    expected = np.random.default_rng(seed).random(3)
    assert np.array_equal(numpy_generator(Stream.MINING, 5, 6).random(3), expected)
    assert torch_generator(Stream.MINING, 5, 6, device=torch.device('cpu')).initial_seed() == seed


def test_no_other_file_seeds_a_generator():
    root = Path(mmdml.__file__).parent
    # These set the global generators, from derived seeds or (the miners of a package) from the batch's generator.
    exempt = {
        'utils/seeding.py',
        'engine/hooks/seed_hook.py',
        'datasets/augmentation_seed.py',
        'models/miners/pml_adapter.py',
    }
    ways = re.compile(r'default_rng|SeedSequence|manual_seed|RandomState|random\.seed|torch\.Generator\(|torch\.seed')
    found = [
        f'{path.relative_to(root)}: {line.strip()}'
        for path in sorted(root.rglob('*.py'))
        if path.relative_to(root).as_posix() not in exempt
        for line in path.read_text().splitlines()
        if ways.search(line)
    ]
    assert not found
