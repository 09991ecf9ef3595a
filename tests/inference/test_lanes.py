"""Lanes: several photos side by side, in order, on their share of the threads, and as each alone would be."""

import copy
import threading
import time

import numpy as np
import pytest
import torch

import atrous
from atrous.inference import Predictor, labelling
from atrous.inference.engines import names
from atrous.inference.lanes import lanes_here, most_here, side_by_side
from atrous.ops.threads import split

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def never(_: object) -> bool:
    return False


def test_results_come_in_order_whichever_is_done_first():
    def work(item: int) -> int:
        time.sleep(0.02 if item % 4 == 0 else 0)
        return item * item

    assert list(side_by_side(iter(range(20)), work, never)) == [(item, item * item) for item in range(20)]


def test_lanes_share_the_threads_and_leave_the_callers_alone():
    together = threading.Barrier(2, timeout=20)
    torch.set_num_threads(2)

    def work(_: int) -> tuple[int, int, int, str]:
        together.wait()  # breaks if there are not two at a time
        return torch.get_num_threads(), lanes_here(), len(split(8, lambda *part: part)), threading.current_thread().name

    seen = [found for _, found in side_by_side(iter(range(6)), work, never)]
    assert {found[:3] for found in seen} == {(1, 2, 1)}
    assert all(name.startswith("atrous-lane") for *_, name in seen)
    assert (torch.get_num_threads(), lanes_here(), most_here()) == (2, 1, 2)
    inherited = []
    thread = threading.Thread(target=lambda: inherited.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert inherited == [2]


def test_an_only_item_has_all_the_threads():
    [(_, found)] = side_by_side(iter("a"), lambda _: (torch.get_num_threads(), lanes_here()), never)
    assert found == (4, 1)


def test_one_that_is_to_be_alone_has_all_the_threads_and_nothing_beside_it():
    running, beside = set(), {}

    def work(item: int) -> tuple[int, int]:
        running.add(item)
        time.sleep(0.01)
        beside[item] = running - {item}
        running.discard(item)
        return item, torch.get_num_threads()

    items = [0, 1, 2, 90, 3, 4, 91, 92, 5]
    found = [result for _, result in side_by_side(iter(items), work, lambda item: item >= 90)]
    assert found == [(item, 4 if item >= 90 else 1) for item in items]
    assert not any(beside[item] for item in (90, 91, 92))
    assert not any(others & {90, 91, 92} for others in beside.values())
    assert beside[1] | beside[2]


def test_no_more_are_taken_than_are_needed():
    taken = 0

    def items():
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = side_by_side(items(), lambda item: item, never)
    for given in range(1, 30):
        assert next(results) == (given, given)
        assert taken <= given + 2 * 4
    results.close()


def test_when_the_caller_stops_the_lanes_stop():
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.02)

    results = side_by_side(iter(range(100)), work, never)
    next(results)
    results.close()
    count = len(begun)
    assert count <= 2 * 4
    time.sleep(0.1)
    assert len(begun) == count
    assert not any(thread.name.startswith("atrous-lane") for thread in threading.enumerate())


def test_a_fault_in_a_lane_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(iter([1, 0, 1]), lambda item: 1 / item, never))


def test_photos_side_by_side_get_the_labels_that_each_gets_alone(exact, make_photo):
    """To the bit where the arithmetic is: sizes, orders and options are mixed, and a tiled one lies between."""
    sizes = [(65, 97), (33, 33), (300, 310), (1, 5), (60, 90), (65, 97), (64, 96)]
    photos = [make_photo(*size, seed=index) for index, size in enumerate(sizes)]
    caller, lanes = threading.current_thread(), set()
    coarse_logits = exact.model.coarse_logits

    def noted(x):
        lanes.add(threading.current_thread().name)
        return coarse_logits(x)

    exact.model.coarse_logits = noted
    for options in ({}, {"flip": True}, {"tile": 129}, {"scores": True}):
        alone = [exact(photo, **options) for photo in photos]
        assert lanes == {caller.name}
        shares, tellers = [], set()

        def progress(share, shares=shares, tellers=tellers):
            shares.append(share)
            tellers.add(threading.current_thread())

        together = list(exact.timed_stream(photos, progress, **options))
        assert any(name.startswith("atrous-lane") for name in lanes)
        lanes.clear()
        for (found, seconds), expected, photo in zip(together, alone, photos, strict=True):
            assert found.image is photo
            assert seconds > 0
            np.testing.assert_array_equal(found.labels, expected.labels)
            if "scores" in options:
                np.testing.assert_array_equal(found.scores(), expected.scores())
        assert sum(shares) == pytest.approx(len(photos))
        assert tellers == {caller}


@pytest.mark.parametrize("engine", names.FLOAT32)
def test_an_engine_gives_the_same_in_lanes_but_for_the_last_bits(make_photo, engine):
    """And the same again, to the bit: which photos lie beside one another does not matter."""
    if names._obstacle(engine, CPU):
        pytest.skip(names._obstacle(engine, CPU))
    torch.set_num_threads(2)
    street = atrous.load("street", "cpu")
    predictor = Predictor(copy.deepcopy(street.model), street.card, "cpu", engine)
    photos = [make_photo(*size) for size in [(65, 97), (97, 65), (65, 97), (129, 129)]]
    together = predictor(photos, scores=True)
    again = predictor(photos[::-1], scores=True)[::-1]
    for photo, found, once_more in zip(photos, together, again, strict=True):
        np.testing.assert_array_equal(found.scores(), once_more.scores())
        alone = predictor(photo, scores=True)
        np.testing.assert_allclose(found.scores(), alone.scores(), atol=1e-4)
        assert (found.labels == alone.labels).mean() > 0.999


def test_large_photos_and_many_probabilities_are_not_held_side_by_side(exact, make_photo, monkeypatch):
    photo = make_photo(100, 100)
    coarse_logits = exact.model.coarse_logits
    seen = set()
    exact.model.coarse_logits = lambda x: (seen.add(torch.get_num_threads()), coarse_logits(x))[1]
    for limit, options in (("_ALONE_PIXELS", {}), ("_ALONE_FLOATS", {"scores": True})):
        for value, threads in ((100 * 100 * 4, 1), (100 * 100 - 1, 4)):
            with monkeypatch.context() as patched:
                patched.setattr(labelling, limit, value)
                exact([photo] * 3, **options)
            assert seen == {threads}
            seen.clear()
    largest_view = labelling.Labelling(exact._network, labelling.Options(scales=(0.5, 2.0)))
    assert largest_view.alone(np.zeros((600, 600, 3), np.uint8))  # 1200 × 1200 at scale 2
    assert not largest_view.alone(np.zeros((500, 500, 3), np.uint8))
