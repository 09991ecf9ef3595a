"""Reading ahead: in order, no further than allowed."""

import threading
import time

import numpy as np
import pytest

from atrous.errors import ImageError
from atrous.inference.lookahead import read_ahead


def _photo(pixels: int) -> np.ndarray:
    return np.zeros((1, pixels, 3), dtype=np.uint8)


def test_results_come_in_order_whichever_is_read_first() -> None:
    def read(source: int) -> np.ndarray:
        time.sleep(0.03 if source % 2 == 0 else 0)
        return _photo(source)

    given = list(read_ahead(range(1, 20), read, count=8))
    assert [source for source, _ in given] == list(range(1, 20))
    assert [photo.shape[1] for _, photo in given] == list(range(1, 20))


def test_no_more_than_count_are_read_before_they_are_asked_for() -> None:
    begun = 0

    def sources():
        nonlocal begun
        while True:
            begun += 1
            yield begun

    photos = read_ahead(sources(), lambda _: _photo(4), count=5)
    for taken in range(1, 30):
        next(photos)
        # Those given out, those that wait, and none more.
        assert begun <= taken + 5
    photos.close()


def test_until_a_size_is_known_the_callers_thread_reads() -> None:
    """So that a call for one photo starts no thread; two that cannot be read tell no size."""
    readers = []

    def read(source: int) -> np.ndarray:
        readers.append(threading.current_thread() is threading.main_thread())
        if source < 2:
            raise ImageError("no photo")
        return _photo(4)

    given = [photo for _, photo in read_ahead(range(5), read, count=8)]
    assert readers == [True, True, True, False, False]
    assert [isinstance(photo, ImageError) for photo in given] == [True, True, False, False, False]
    assert list(read_ahead([], read, count=8)) == []


def test_large_photos_are_read_one_at_a_time() -> None:
    lock = threading.Lock()
    reading = most = 0

    def read(_: int) -> np.ndarray:
        nonlocal reading, most
        with lock:
            reading += 1
            most = max(most, reading)
        time.sleep(0.01)
        with lock:
            reading -= 1
        return _photo(1000)

    assert len(list(read_ahead(range(6), read, count=8, pixels=900))) == 6
    assert most == 1


def test_small_photos_are_read_ahead_while_the_first_is_worked_on() -> None:
    read = threading.Event()

    def note(source: int) -> np.ndarray:
        if source == 3:
            read.set()
        return _photo(10)

    photos = read_ahead(range(10), note, count=4, pixels=1000)
    next(photos)  # the first alone: nothing is known of the sizes before
    next(photos)
    assert read.wait(5)
    photos.close()


def test_an_unreadable_one_comes_as_its_error_in_its_place() -> None:
    def read(source: int) -> np.ndarray:
        if source == 2:
            raise ImageError("broken.jpg: cut short")
        return _photo(source)

    given = [result for _, result in read_ahead([1, 2, 3], read, count=4)]
    assert [isinstance(result, ImageError) for result in given] == [False, True, False]
    assert str(given[1]) == "broken.jpg: cut short"


def test_an_error_that_is_no_ones_fault_but_ours_is_not_hidden() -> None:
    def read(_: int) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(read_ahead([1], read, count=4))
