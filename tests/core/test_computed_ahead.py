"""Results ahead of the one who takes them: in order, at most so many, and no thread idle beside a slow item."""

import threading

import pytest

from siimdet.core.ahead import computed_ahead


@pytest.mark.parametrize("count", [0, 1, 100])
def test_results_come_in_the_order_of_the_items(count):
    assert list(computed_ahead(lambda x: x * x, range(count), threads=3)) == [x * x for x in range(count)]


@pytest.mark.parametrize("slow", range(0, 20))
def test_beside_a_slow_item_the_other_thread_goes_on_whatever_its_place(slow):
    begun = [threading.Event() for _ in range(40)]

    def function(index: int) -> bool:
        begun[index].set()
        return index != slow or begun[slow + 4].wait(10)

    assert all(computed_ahead(function, range(40), threads=2))


def test_no_more_than_four_results_of_each_thread_wait():
    begun: list[int] = []
    results = computed_ahead(begun.append, range(100), threads=2)
    next(results)
    assert len(begun) <= 8
    next(results)
    assert len(begun) <= 9
    results.close()


def test_an_error_comes_in_its_place_and_ends_the_work():
    begun: list[int] = []

    def function(index: int) -> int:
        begun.append(index)
        return 1 // (5 - index)

    results = computed_ahead(function, range(1000), threads=1)
    assert [next(results) for _ in range(5)] == [0, 0, 0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert begun == list(range(len(begun)))
    assert len(begun) <= 9
