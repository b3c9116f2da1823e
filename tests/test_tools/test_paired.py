import numpy as np
import pytest
from paired import differences, paired
from scipy import stats


def test_the_t_interval_is_that_of_the_textbook():
    # Student's sleep data (1908), as of R: t.test(extra ~ group, data = sleep, paired = TRUE).
    sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    found = paired(sleep)
    assert found.mean == pytest.approx(1.58) and (found.n, found.positive) == (10, 9)
    assert found.t == pytest.approx((0.7001142, 2.4598858), abs=1e-6) and found.clear
    assert not paired([-1.0, 1.0, 0.5]).clear and not paired([1.0, 1.0]).clear


def test_the_bootstrap_is_that_of_scipy():
    values = np.random.default_rng(1).normal(0.3, 1, 12)
    own = paired(values).bootstrap
    other = stats.bootstrap((values,), np.mean, n_resamples=20_000, method='percentile', random_state=2)
    assert own == pytest.approx((other.confidence_interval.low, other.confidence_interval.high), abs=0.03)
    assert own == paired(values).bootstrap


def test_one_pair_has_no_interval_and_none_is_refused():
    one = paired([-0.5])
    assert (one.n, one.mean, one.t, one.bootstrap, one.positive, one.clear) == (1, -0.5, None, None, 0, False)
    with pytest.raises(ValueError, match='there are no pairs'):
        paired([])


def test_only_seeds_of_both_are_compared():
    assert differences({0: 1.0, 2: 5.0, 3: 1.0}, {3: 4.0, 0: 2.0, 7: 9.0}) == [1.0, 3.0]
