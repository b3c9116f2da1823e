from mmdml.dist import shard
from mmdml.structures import Progress


def test_epochs_count_passes_of_the_loader():
    progress = Progress(iter=25, max_iters=95, epoch_length=10)
    assert progress.epoch == 2 and progress.max_epochs == 10


def test_spans_are_epochs_as_integers_and_shares_of_the_run_as_floats():
    progress = Progress(iter=0, max_iters=100, epoch_length=10)
    assert progress.iterations(1) == 10
    assert progress.iterations(1.0) == 100
    assert progress.iterations(0.031) == 4
    assert progress.iterations(0) == 0


def test_shards_cover_everything_once_and_differ_by_at_most_one():
    for length in (0, 1, 7, 8):
        bounds = [shard(length, rank, 3) for rank in range(3)]
        assert [i for start, stop in bounds for i in range(start, stop)] == list(range(length))
        sizes = [stop - start for start, stop in bounds]
        assert max(sizes) - min(sizes) <= 1
