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
        Rows(anchors, torch.arange(2) * 0, none, none),
        Rows(anchors, torch.arange(2) * 0, none, none),
        exclude_same_image=True,
    )
    assert pairs.positive_mask.all()


def test_old_rows_of_the_same_image_are_excluded_only_by_option():
    anchors = Rows(unit(2), torch.arange(2) * 0, torch.arange(2), torch.tensor([5, 6]))
    candidates = Rows(unit(2), torch.arange(2) * 0, torch.full((2,), -1), torch.tensor([6, 7]))
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
    columns = dict.fromkeys(('labels', 'views', 'indices'), torch.arange(3)) | {wrong: torch.arange(2)}
    with pytest.raises(ValueError, match=f'{wrong} has 2 entries for 3 embeddings'):
        Rows(unit(3), **columns)


def test_anchors_and_candidates_of_two_widths_are_named():
    rows = Rows.of_batch(unit(3), torch.arange(3))
    with pytest.raises(ValueError, match='one width, got 4 and 5 columns'):
        PairBatch(rows, rows.with_embeddings(unit(3, dim=5)))


def test_references_without_views_form_all_pairs():
    labels = torch.tensor([0, 1, 2])
    references = Rows(unit(3), labels, views=torch.full_like(labels, -1))
    pairs = PairBatch(Rows.of_batch(unit(3), labels), references)
    assert pairs.positive_mask.equal(torch.eye(3, dtype=torch.bool))
    assert pairs.negative_mask.equal(~torch.eye(3, dtype=torch.bool))


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


@pytest.mark.parametrize('mask', [True, False], ids=['mask', 'weights'])
def test_a_dense_matrix_may_say_what_was_mined(mask):
    pairs = PairBatch.from_embeddings(unit(4), torch.tensor([0, 0, 1, 1]))
    dense = torch.zeros(4, 4)
    dense[0, 1], dense[0, 2], dense[0, 0] = 1.5, 2.0, 9.0
    positive, negative = pairs.weights(dense > 0 if mask else dense)
    assert positive.dtype == negative.dtype == torch.float32
    assert positive[0].tolist() == [0, 1 if mask else 1.5, 0, 0] and negative[0].tolist() == [0, 0, 1 if mask else 2, 0]


def test_weights_of_all_pairs_are_the_masks():
    pairs = PairBatch.from_embeddings(unit(4).double(), torch.tensor([0, 0, 1, 1]))
    positive, negative = pairs.weights()
    assert positive.dtype == torch.float64
    assert torch.equal(positive > 0, pairs.positive_mask) and torch.equal(negative > 0, pairs.negative_mask)
    assert torch.equal(positive + negative, (~pairs.excluded_mask).double())


def test_no_triplets_weigh_nothing():
    pairs = PairBatch.from_embeddings(unit(4), torch.tensor([0, 0, 1, 1]))
    nothing = Triplets.none()
    assert all(index.shape == (0,) and index.dtype == torch.int64 for index in nothing)
    assert not any(weight.any() for weight in pairs.weights(nothing))


@pytest.mark.parametrize('dtype', [torch.int32, torch.int16, torch.uint8, torch.bool], ids=str)
def test_labels_of_any_integer_type_are_kept_as_int64(dtype):
    rows = Rows.of_batch(unit(3), torch.tensor([0, 1, 1]).to(dtype))
    assert rows.labels.dtype == torch.int64 and rows.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    'labels, error, words',
    [
        (torch.arange(3)[:, None], ValueError, r'a vector \(R,\), got shape \(3, 1\)'),
        (torch.eye(3, dtype=torch.int64), ValueError, r'a vector \(R,\), got shape \(3, 3\)'),
        (torch.rand(3), TypeError, 'labels must be integers, got torch.float32'),
        ([0, 1, 1], TypeError, 'a tensor .* got list'),
        (torch.arange(3).numpy(), TypeError, 'a tensor .* got ndarray'),
    ],
    ids=['column', 'one-hot', 'fractions', 'list', 'numpy'],
)
def test_labels_that_are_no_vector_of_integers_are_refused(labels, error, words):
    with pytest.raises(error, match=words):
        PairBatch.from_embeddings(unit(3), labels)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_embeddings_that_nobody_normalized_are_refused(dtype):
    raw = 3 * unit(3)
    raw[0] = 0
    labels = torch.tensor([0, 0, 1])
    with pytest.raises(ValueError, match=r'takes rows of length 1, which .*normalize.* got a row of length 3$'):
        PairBatch.from_embeddings(raw.to(dtype), labels)
    PairBatch.from_embeddings(normalize(raw, dim=1).to(dtype), labels)
    PairBatch.from_embeddings(normalize(raw.to(dtype), dim=1), labels)


def test_detached_pairs_have_no_graph_and_leave_the_graph_of_the_others_alone():
    raw = unit(4).requires_grad_()
    pairs = PairBatch.from_embeddings(raw, torch.tensor([0, 0, 1, 1]), ids=torch.tensor([0, 1, 1, 2]))
    apart = pairs.detach()
    assert not apart.similarity.requires_grad and not apart.candidates.embeddings.requires_grad
    assert apart.similarity.data_ptr() == pairs.similarity.data_ptr()
    for name in ('positive_mask', 'negative_mask', 'excluded_mask'):
        assert getattr(apart, name) is getattr(pairs, name)
    (gradient,) = torch.autograd.grad(pairs.similarity.sum(), raw)
    assert gradient.abs().sum() > 0


def test_the_distance_of_equal_rows_has_gradient_zero_and_is_a_root_of_eps():
    rows = unit(2)[[0, 0, 1]].requires_grad_()
    pairs = PairBatch.from_embeddings(rows, torch.tensor([0, 0, 1]))
    exact = (rows.detach()[:, None] - rows.detach()[None, :]).norm(dim=2)
    torch.testing.assert_close(pairs.distance().detach(), exact, atol=4e-4, rtol=1e-5)
    assert pairs.distance(eps=1e-4).min() >= 0.01
    equal = torch.eye(2)[[0, 0]].requires_grad_()
    PairBatch.from_embeddings(equal, torch.tensor([0, 0])).distance().sum().backward()
    assert (equal.grad == 0).all()


def test_some_of_the_rows_keep_their_columns():
    rows = Rows(unit(3), torch.tensor([4, 5, 6]), torch.tensor([[0, 1], [1, -1], [2, -1]]), torch.tensor([7, 8, 9]))
    for chosen in (slice(1, 3), torch.tensor([1, 2]), torch.tensor([False, True, True])):
        part = rows[chosen]
        assert part.labels.tolist() == [5, 6] and part.indices.tolist() == [8, 9]
        assert part.views.tolist() == [[1, -1], [2, -1]] and torch.equal(part.embeddings, rows.embeddings[1:])


def test_rows_joined_of_parts_score_as_one_matrix_and_give_gradient_to_those_with_a_graph():
    real = Rows.of_batch(unit(3).double().requires_grad_(), torch.tensor([0, 0, 1]))
    old = Rows(unit(4).double(), torch.tensor([0, 1, 1, 2]), torch.full((4,), -1))
    pairs, weight = PairBatch(real, Rows.cat([real, old])), torch.rand(3, 7, dtype=torch.float64)
    joined = PairBatch(real, pairs.candidates.with_embeddings(torch.cat([real.embeddings, old.embeddings])))
    torch.testing.assert_close(pairs.similarity, joined.similarity)
    assert torch.equal(pairs.positive_mask, joined.positive_mask)
    gradients = [torch.autograd.grad((weight * p.similarity).sum(), real.embeddings)[0] for p in (pairs, joined)]
    torch.testing.assert_close(*gradients)
    assert [part.requires_grad for part in pairs.candidates.parts] == [True, False]
    assert torch.equal(pairs.candidates[2:5].embeddings, joined.candidates.embeddings[2:5])


def test_parts_of_unequal_width_are_refused_before_they_are_joined():
    parts = [Rows.of_batch(torch.ones(2, width), torch.tensor([0, 1])) for width in (3, 5)]
    with pytest.raises(ValueError, match='one width, got 3 and 5 columns'):
        Rows.cat(parts)
