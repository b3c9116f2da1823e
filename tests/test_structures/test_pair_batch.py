import pytest
import torch
from torch.nn.functional import normalize

from mmdml.structures import PairBatch, Pairs, Rows, Triplets


def unit(rows, dim=4, seed=0):
    return normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_from_embeddings_excludes_only_the_anchor_itself():
    pairs = PairBatch.from_embeddings(unit(4), torch.tensor([0, 0, 1, 1]))
    eye = torch.eye(4, dtype=torch.bool)
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]).bool()
    assert torch.equal(pairs.positive_mask, same & ~eye)
    assert torch.equal(pairs.negative_mask, ~same)


def test_rows_that_share_an_id_form_no_pair_whatever_their_order():
    labels = torch.tensor([0, 1, 0, 0])
    pairs = PairBatch.from_embeddings(unit(4), labels, ids=torch.tensor([7, 8, 7, 9]))
    assert not pairs.positive_mask[0, 2] and not pairs.positive_mask[2, 0]
    assert pairs.positive_mask[0, 3] and pairs.positive_mask[2, 3]


def test_a_row_of_two_parents_forms_no_pair_with_either():
    anchors, child = unit(3), unit(1, seed=1)
    pairs = PairBatch(
        Rows(anchors, torch.tensor([0, 0, 0]), torch.tensor([0, 1, 2])),
        Rows(
            torch.cat([anchors, child]), torch.tensor([0, 0, 0, 0]), torch.tensor([[0, -1], [1, -1], [2, -1], [0, 1]])
        ),
    )
    assert pairs.positive_mask[:, 3].tolist() == [False, False, True]


def test_unknown_ids_never_match():
    anchors = unit(2)
    none = torch.full((2,), -1)
    pairs = PairBatch(
        Rows(anchors, torch.zeros(2), none, none), Rows(anchors, torch.zeros(2), none, none), exclude_same_image=True
    )
    assert pairs.positive_mask.all()


def test_old_rows_of_the_same_image_are_excluded_only_by_option():
    anchors = Rows(unit(2), torch.zeros(2), torch.arange(2), torch.tensor([5, 6]))
    candidates = Rows(unit(2), torch.zeros(2), torch.full((2,), -1), torch.tensor([6, 7]))
    assert PairBatch(anchors, candidates).positive_mask.all()
    excluding = PairBatch(anchors, candidates, exclude_same_image=True)
    assert excluding.positive_mask.tolist() == [[True, True], [False, True]]


def test_similarity_is_fp32_under_autocast_and_for_half_rows():
    rows = unit(3)
    expected = rows @ rows.t()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(PairBatch.from_embeddings(rows, torch.arange(3)).similarity, expected)
    half = PairBatch.from_embeddings(rows.half(), torch.arange(3)).similarity
    assert half.dtype == torch.float32
    assert torch.equal(half, rows.half().float() @ rows.half().float().t())


def test_mined_pairs_add_up_and_impossible_ones_count_nothing():
    pairs = PairBatch.from_embeddings(unit(4), torch.tensor([0, 0, 1, 1]))
    mined = Pairs(torch.tensor([0, 0, 0, 0]), torch.tensor([1, 1, 2, 0]), torch.tensor([1.0, 0.5, 2.0, 9.0]))
    positive, negative = pairs.weights(mined)
    assert positive[0].tolist() == [0, 1.5, 0, 0] and negative[0].tolist() == [0, 0, 2, 0]
    assert positive[1:].sum() == 0 and negative[1:].sum() == 0


def test_mined_triplets_count_for_both_their_pairs():
    pairs = PairBatch.from_embeddings(unit(4), torch.tensor([0, 0, 1, 1]))
    positive, negative = pairs.weights(Triplets(torch.tensor([0, 0]), torch.tensor([1, 1]), torch.tensor([2, 3])))
    assert positive[0, 1] == 2 and negative[0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize('wrong', ['labels', 'views', 'indices'])
def test_columns_of_a_wrong_length_are_named(wrong):
    columns = dict(labels=torch.zeros(3), views=torch.arange(3), indices=torch.arange(3)) | {wrong: torch.zeros(2)}
    with pytest.raises(ValueError, match=f'{wrong} has 2 entries for 3 embeddings'):
        Rows(unit(3), **columns)


def test_anchors_and_candidates_of_two_widths_are_named():
    rows = Rows.of_batch(unit(3), torch.arange(3))
    with pytest.raises(ValueError, match='one width, got 4 and 5 columns'):
        PairBatch(rows, rows.with_embeddings(unit(3, dim=5)))


def test_rows_of_a_batch_are_views_of_their_own_without_data_set_index():
    rows = Rows.of_batch(unit(3), torch.tensor([1, 1, 2]))
    assert rows.views.flatten().tolist() == [0, 1, 2] and rows.indices.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    'types, joined',
    [
        ((torch.float16, torch.float32), torch.float32),
        ((torch.float32, torch.float64), torch.float64),
        ((torch.float16, torch.bfloat16), torch.float32),
        ((torch.float16, torch.float16), torch.float16),
    ],
    ids=str,
)
def test_cat_fills_missing_parents_and_takes_the_type_that_holds_all(types, joined):
    real = Rows.of_batch(unit(2).to(types[0]), torch.tensor([0, 1]))
    made = Rows(unit(1).to(types[1]), torch.tensor([0]), torch.tensor([[0, 1]]), torch.tensor([-1]))
    rows = Rows.cat([real, made])
    assert rows.views.tolist() == [[0, -1], [1, -1], [0, 1]]
    assert rows.embeddings.dtype == joined and len(rows) == 3
    assert torch.equal(rows.embeddings, torch.cat([real.embeddings.to(joined), made.embeddings.to(joined)]))
