"""A worker by itself: what it leaves, what it predicts, and what it does with a photo that kills."""

import json
from collections import Counter

import pytest

pytest.importorskip("ray")

from atrous.cluster import Done, Task, places
from atrous.cluster.stamps import stamped
from atrous.cluster.worker import Worker, from_json


@pytest.fixture
def begun():
    return Counter()


@pytest.fixture
def work(predictor, begun):
    """Gives a worker one shard; its outcomes by photo."""

    def begin(what):
        begun[what] += 1
        return begun[what]

    def run(tasks, since=None):
        worker = Worker(predictor.model, predictor.card, "cpu", "torch", {}, "run", since, begin)
        rows = worker({"task": [json.dumps(vars(task)) for task in tasks]})["outcome"]
        outcomes = [from_json(row) for row in rows]
        return {outcome.photo if isinstance(outcome, Done) else outcome.source: outcome for outcome in outcomes}

    return run


def tasks_of(bucket):
    out = "memory://photos/out"
    names = [photo.rpartition("/")[2] for photo in places.list_photos(bucket)]
    return [
        Task(f"{bucket}/{n}", {"mask": f"{out}/{n}.png", "overlay": f"{out}/{n}.jpg"}) for n in [*names, "gone.png"]
    ]


def test_from_bucket_to_bucket_as_save_writes_it(work, bucket, predictor, tmp_path, picture):
    outcomes = work(tasks_of(bucket))
    for name, seed in (("a 1%20.png", 1), ("b.jpg", 2)):
        done = outcomes[f"{bucket}/{name}"]
        expected = predictor(picture(seed))
        mask, overlay = expected.save(tmp_path / "expected", "both")
        for file, suffix in ((mask, "png"), (overlay, "jpg")):
            stamp = places.stamp_of(f"{bucket}/{name}")
            assert places.read(f"memory://photos/out/{name}.{suffix}") == stamped(file.read_bytes(), stamp)
        assert done.size == (40, 60)
        assert done.areas == expected.areas()
        assert done.seconds > 0
    for name in ("cut.png", "gone.png"):
        failure = outcomes[f"{bucket}/{name}"]
        assert not failure
        assert failure.message.startswith(f"{bucket}/{name}: ")
        assert len(failure.message.splitlines()) == 1
    assert len(outcomes) == 4


def test_a_second_run_does_what_is_missing(work, bucket, begun, picture):
    tasks = tasks_of(bucket)[:2]
    work(tasks)
    begun.clear()
    places.write(tasks[0].files["overlay"], picture(1)[:-1], "run")
    outcomes = work(tasks)
    assert outcomes[tasks[0].photo].size == (40, 60)
    assert outcomes[tasks[1].photo] == Done(tasks[1].photo)
    assert places.is_done(tasks[0].files["overlay"], None, places.stamp_of(tasks[0].photo))


def test_another_photos_mask_of_the_same_name_is_not_this_ones(work, bucket, begun):
    first, second = tasks_of(bucket)[:2]
    work([first])
    other = Task(second.photo, first.files)
    assert work([other])[second.photo].size == (40, 60)
    begun.clear()
    assert work([other])[second.photo] == Done(second.photo)


def test_a_photo_that_kills_its_worker_is_given_up_and_its_shard_is_not(work, bucket, begun, predictor, monkeypatch):
    """The killed worker is played by an exception that nothing catches; Ray gives the shard to another."""
    tasks = tasks_of(bucket)[:2]
    monkeypatch.setattr(type(predictor), "timed_stream", deadly(tasks[0].photo, type(predictor).timed_stream))
    for _ in range(3):
        with pytest.raises(SystemExit):
            work(tasks)
    outcomes = work(tasks)
    assert outcomes[tasks[0].photo].message.endswith("not predicted: its worker died each of 3 times")
    assert outcomes[tasks[1].photo].size == (40, 60)


def deadly(name, stream):
    def timed_stream(self, sources, progress, **options):
        if any(source.name == name for source in sources):
            raise SystemExit
        return stream(self, sources, progress, **options)

    return timed_stream


def test_another_photo_is_not_written_over(work, bucket, picture):
    task = tasks_of(bucket)[0]
    places.write(task.files["mask"], picture(3), "run")
    failure = work([task])[task.photo]
    assert not failure
    assert f"not written: {task.files['mask']}: is there and is no mask" in failure.message
    assert places.read(task.files["mask"]) == picture(3)
