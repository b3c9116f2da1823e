import numpy as np

from mmdml.utils.numbers import are_numbers, is_number, is_whole


def test_whole_numbers_and_numbers_are_told_from_what_looks_like_them():
    whole, real, none = (3, -1, 10**30, np.int64(3), np.uint8(3)), (3.0, np.float32(0.5)), (True, '3', None, [3], 1j)
    assert all(map(is_whole, whole)) and not any(map(is_whole, real + none))
    assert all(map(is_number, whole + real)) and not any(map(is_number, none))


def test_a_list_of_numbers_is_told_from_a_single_one_and_from_texts():
    assert all(map(are_numbers, ([], (1, 0.5), [np.float32(0.5)])))
    assert not any(map(are_numbers, (1, 0.5, '12', ['1'], [True], [1, float('nan')], None)))
    assert are_numbers([1], 1) and not are_numbers([], 1)
