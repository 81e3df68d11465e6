"""Requests are collected into batches within bounds, one image's fault costs no other its answer, and none is lost."""

from __future__ import annotations

import threading
import time

import pytest

from deployment.serving.batches import Batcher
from deployment.serving.limits import Limits, RefusedError


class Lengths:
    """The length of each content; the network can be held, and `bad` cannot be computed."""

    def __init__(self):
        self.batches = []
        self.free = threading.Event()
        self.free.set()
        self.begun = threading.Event()

    def prepare(self, content):
        if content == b"unreadable":
            raise ValueError(content)
        return content

    def pixels(self, prepared):
        return len(prepared)

    def compute(self, images):
        self.batches.append(list(images))
        self.begun.set()
        assert self.free.wait(10)
        if b"bad" in images:
            raise RuntimeError("bad")
        return [len(image) for image in images]


def started(work, on_batch=lambda images, seconds: None, **limits):
    batcher = Batcher(work, Limits(**{"wait_ms": 200, **limits}), on_batch)
    batcher.start()
    return batcher


def test_what_waits_is_computed_together_and_answers_keep_their_places():
    work, seen = Lengths(), []
    batcher = started(work, lambda images, seconds: seen.append(images), batch_size=4)
    answers = [batcher.submit(b"x" * count) for count in (1, 2, 3, 4, 5)]
    assert [answer.result(5) for answer in answers] == [1, 2, 3, 4, 5]
    batcher.stop()
    assert [len(batch) for batch in work.batches] == [4, 1]
    assert seen == [4, 1]


def test_a_full_batch_does_not_wait_and_a_lone_image_waits_as_long_as_allowed():
    batcher = started(Lengths(), batch_size=2, wait_ms=400)
    began = time.monotonic()
    for answer in [batcher.submit(b"1"), batcher.submit(b"22")]:
        answer.result(5)
    assert time.monotonic() - began < 0.3
    began = time.monotonic()
    batcher.submit(b"1").result(5)
    assert 0.35 < time.monotonic() - began < 2
    batcher.stop()


def test_a_batch_waits_for_images_that_are_being_read():
    class Slow(Lengths):
        def prepare(self, content):
            time.sleep(0.05)
            return content

    work = Slow()
    batcher = started(work, batch_size=6, wait_ms=5)
    for answer in [batcher.submit(b"x") for _ in range(6)]:
        answer.result(5)
    batcher.stop()
    assert [len(batch) for batch in work.batches] == [6]


def test_a_batch_has_no_more_pixels_than_allowed_but_for_one_image():
    work = Lengths()
    batcher = started(work, batch_size=8, max_pixels=10)
    for answer in [batcher.submit(b"x" * count) for count in (6, 4, 3, 30, 2)]:
        answer.result(5)
    batcher.stop()
    assert all(len(batch) == 1 or sum(map(len, batch)) <= 10 for batch in work.batches)
    assert sorted(len(image) for batch in work.batches for image in batch) == [2, 3, 4, 6, 30]


def test_one_bad_image_fails_alone():
    batcher = started(Lengths(), batch_size=4)
    contents = [b"one", b"bad", b"four", b"unreadable"]
    answers = [batcher.submit(content) for content in contents]
    assert answers[0].result(5) == 3
    assert answers[2].result(5) == 4
    with pytest.raises(RuntimeError):
        answers[1].result(5)
    with pytest.raises(ValueError, match="unreadable"):
        answers[3].result(5)
    assert batcher.submit(b"more").result(5) == 4  # the threads go on
    assert batcher.alive
    batcher.stop()


def test_a_full_queue_refuses_with_a_time_and_what_was_given_up_is_not_computed():
    work = Lengths()
    work.free.clear()
    batcher = started(work, batch_size=1, queue=3, wait_ms=0)
    answers = [batcher.submit(b"first")]
    assert work.begun.wait(5)
    refused = None
    while refused is None and len(answers) < 20:  # the readers hold some besides the queue
        try:
            answers.append(batcher.submit(b"later"))
        except RefusedError as error:
            refused = error
        time.sleep(0.02)
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert 3 <= len(answers) - 1 <= 3 + 1 + 2  # the queue, the ready one, the two readers
    for answer in answers[1:]:
        assert answer.cancel()
    work.free.set()
    assert answers[0].result(5) == 5
    batcher.stop()
    assert work.batches == [[b"first"]]


def test_stopping_answers_what_waits_and_takes_no_more():
    work = Lengths()
    work.free.clear()
    batcher = started(work, batch_size=2, queue=8, wait_ms=0)
    answers = [batcher.submit(b"x" * count) for count in range(1, 8)]
    ending = threading.Thread(target=batcher.stop)
    ending.start()
    time.sleep(0.1)
    assert not batcher.alive
    with pytest.raises(RefusedError, match="shutting down"):
        batcher.submit(b"late")
    work.free.set()
    ending.join(5)
    assert not ending.is_alive()
    assert [answer.result(0) for answer in answers] == list(range(1, 8))


def test_images_are_not_held_after_their_answers():
    import gc
    import weakref

    class Picture:
        pass

    class Pictures(Lengths):
        def prepare(self, content):
            made = Picture()
            kept.append(weakref.ref(made))
            return made

        def pixels(self, prepared):
            return 1

        def compute(self, images):
            return [1 for _ in images]

    kept = []
    batcher = started(Pictures(), batch_size=2, wait_ms=0)
    for answer in [batcher.submit(b"x") for _ in range(6)]:
        answer.result(5)
    time.sleep(0.1)
    gc.collect()
    assert [one() for one in kept] == [None] * 6
    batcher.stop()
