import threading
import time

import pytest

from data.parallel import ordered_map


def test_results_keep_the_order_of_the_items():
    def slow_first(i):
        time.sleep(0.02 * (i % 3 == 0))
        return i * i

    assert list(ordered_map(slow_first, range(100))) == [i * i for i in range(100)]
    assert list(ordered_map(slow_first, [])) == []


def test_no_more_is_computed_than_two_results_a_thread_ahead(monkeypatch):
    monkeypatch.setattr("data.parallel._MAX_THREADS", 2)
    started, lock = [], threading.Lock()

    def record(i):
        with lock:
            started.append(i)
        return i

    results = ordered_map(record, range(100))
    assert next(results) == 0
    time.sleep(0.1)
    assert len(started) == 4
    results.close()
    assert len(started) <= 4


def test_exception_comes_in_its_place():
    results = ordered_map(lambda i: 1 // (i - 2), range(5))
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
