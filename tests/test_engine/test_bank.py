import torch

from mmdml.engine import EmbeddingBank
from mmdml.structures import Rows


def rows(values, indices):
    indices = torch.tensor(indices)
    return Rows.of_batch(torch.tensor(values), torch.zeros_like(indices), indices)


def test_bank_keeps_the_latest_row_of_every_image():
    bank = EmbeddingBank(4, 1, torch.device('cpu'))
    bank.update(rows([[1.0], [2.0]], [3, 0]))
    bank.update(rows([[5.0]], [3]))
    assert bank.rows.flatten().tolist() == [2, 0, 0, 5] and bank.filled.tolist() == [True, False, False, True]


def test_of_an_image_twice_in_a_batch_the_later_row_stays():
    bank = EmbeddingBank(2, 1, torch.device('cpu'))
    bank.update(rows([[1.0], [2.0], [3.0]], [1, 0, 1]))
    bank.update(rows([[7.0], [8.0], [9.0]], [0, 0, 0]))
    assert bank.rows.flatten().tolist() == [9, 3]


def test_bank_comes_back_from_its_state():
    bank = EmbeddingBank(3, 1, torch.device('cpu'))
    bank.update(rows([[1.5]], [2]))
    again = EmbeddingBank.from_state(bank.state_dict(), torch.device('cpu'))
    again.update(rows([[4.0]], [0]))
    assert again.rows.flatten().tolist() == [4, 0, 1.5] and again.filled.tolist() == [True, False, True]
    assert bank.filled.tolist() == [False, False, True]


def test_rows_that_show_no_image_of_the_data_set_are_skipped():
    bank = EmbeddingBank(2, 1, torch.device('cpu'))
    bank.update(rows([[1.0], [2.0], [3.0]], [-1, 1, -1]))
    assert bank.rows.flatten().tolist() == [0, 2] and bank.filled.tolist() == [False, True]
    assert {name: len(value) for name, value in bank.state_dict().items()} == dict(rows=2, filled=2)
