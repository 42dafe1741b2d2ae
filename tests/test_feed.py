"""Batches in chunks, data on the device, and many updates a dispatch: the same numbers as one by one."""

import dataclasses
import json
import logging
import re
import signal
import threading
from functools import cache

import jax
import numpy as np
import pytest

import cnn_jax.evaluate
import cnn_jax.train
from cnn_jax.build import build
from cnn_jax.data import feed
from cnn_jax.data.source import MemorySource
from cnn_jax.errors import Stopped
from cnn_jax.evaluate import Evaluator
from cnn_jax.experiment import Spec
from cnn_jax.idle import Idle
from cnn_jax.parallel import make_parallel
from cnn_jax.train import train
from tests.runs import CLASSIFIER, TRIPLET, assert_trees_equal
from tests.test_resume import final_state, records
from tests.test_stopping import signalled


@pytest.mark.parametrize("size", [1, 3, 8, 100])
@pytest.mark.parametrize("start_step", [0, 5])
def test_chunks_hold_every_batch_once_and_end_where_the_loop_stops(size, start_step):
    stops = (7, 10, 21)
    batches = ({"x": np.array([step])} for step in range(start_step, 21))

    def stop(step):
        return min((s for s in stops if s > step), default=step)

    found = list(feed.chunks(batches, size=size, start_step=start_step, stop=stop))
    ends = np.cumsum([start_step] + [chunk.num for chunk in found])
    assert set(stops) <= {*ends}
    assert all(chunk.batches["x"].shape == (size, 1) for chunk in found)
    assert np.concatenate([chunk.batches["x"][: chunk.num, 0] for chunk in found]).tolist() == list(range(start_step, 21))


def test_only_small_data_in_memory_lie_on_the_device(tmp_path, monkeypatch):
    images, labels = np.zeros((3, 8, 8, 1), np.uint8), np.arange(3)
    assert feed.resident(MemorySource(images, labels)) is not None
    np.save(tmp_path / "images.npy", images)
    assert feed.resident(MemorySource(np.load(tmp_path / "images.npy", mmap_mode="r"), labels)) is None
    monkeypatch.setattr(feed, "RESIDENT_BYTES", images.nbytes - 1)
    assert feed.resident(MemorySource(images, labels)) is None


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """A function of an experiment: the figures and the folder of its run of one update a dispatch on one device, made once."""

    @cache
    def run(experiment):
        workdir = tmp_path_factory.mktemp("one")
        return train(experiment, workdir, num_devices=1), workdir

    return run


@pytest.mark.parametrize("name", ["classifier", "triplet"])
def test_many_updates_a_dispatch_are_as_one_by_one(name, one_by_one, tmp_path):
    """Parameters, statistics, average, optimizer and every logged figure; 30 updates, evaluations at 13 and 26, logs every 5."""
    experiment = {"classifier": CLASSIFIER, "triplet": TRIPLET}[name]
    one, workdir = one_by_one(experiment)
    many = train(dataclasses.replace(experiment, steps_per_dispatch=16), tmp_path / "many", num_devices=1)
    assert many == pytest.approx(one, rel=1e-5)
    a, b = final_state(workdir), final_state(tmp_path / "many")
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6 * max(np.abs(x).max(), 1))
    ours, theirs = records(tmp_path / "many"), records(workdir)
    assert [r["step"] for r in ours] == [r["step"] for r in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        numbers = {k: v for k, v in mine.items() if isinstance(v, float)}
        assert numbers == pytest.approx({k: other[k] for k in numbers}, rel=1e-4, abs=1e-6)


def test_the_size_of_a_dispatch_and_where_it_is_cut_do_not_change_a_bit(tmp_path):
    states = []
    for size, log_every in ((4, 5), (7, 30)):
        experiment = dataclasses.replace(CLASSIFIER, steps_per_dispatch=size, log_every=log_every)
        train(experiment, tmp_path / str(size), num_devices=1)
        states.append(final_state(tmp_path / str(size)))
    assert_trees_equal(*states)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_many_updates_on_several_devices(mode, one_by_one, tmp_path):
    experiment = dataclasses.replace(CLASSIFIER, num_steps=6, eval_every=6)
    one, _ = one_by_one(experiment)
    many = train(dataclasses.replace(experiment, steps_per_dispatch=4), tmp_path / "many", mode=mode, num_devices=2)
    assert many == pytest.approx(one, rel=1e-4)


def recording(events, parallel):
    """The same devices, which tell what chunk is sent to them, and what work handed over."""
    made = []

    def compile_steps(*arguments):
        steps = parallel.compile_steps(*arguments)
        events.clear()  # what it was compiled for was sent as well

        def recorded(state, data, batches, num):
            state, measures = steps(state, data, batches, num)
            made.append(measures)
            events.append(("compute", len(made)))
            return state, measures

        return recorded

    def shard_stacked(batches):
        events.append(("send", 1 + sum(what == "send" for what, _ in events)))
        return parallel.shard_stacked(batches)

    def wait(arrays, whole=jax.block_until_ready):
        if threading.current_thread() is threading.main_thread():
            events.append(("wait", 1 + next(i for i, measures in enumerate(made) if measures is arrays)))
        return whole(arrays)

    return parallel._replace(compile_steps=compile_steps, shard_stacked=shard_stacked), wait


def test_data_that_do_not_fit_on_the_device_are_sent_ahead_of_time(one_by_one, tmp_path, monkeypatch):
    """Chunks are sent while those before them are computed; a run in two parts equals one in one go, bit for bit."""
    on_device, _ = one_by_one(CLASSIFIER)
    monkeypatch.setattr(feed, "RESIDENT_BYTES", 0)
    events, chunked = [], dataclasses.replace(CLASSIFIER, steps_per_dispatch=3)
    with monkeypatch.context() as patch:
        devices, wait = recording(events, make_parallel("jit", 1))
        patch.setattr(cnn_jax.train, "make_parallel", lambda *_: devices)
        patch.setattr(jax, "block_until_ready", wait)
        assert train(chunked, tmp_path / "b", num_devices=1) == pytest.approx(on_device, rel=1e-5)
    num = sum(what == "compute" for what, _ in events)
    order = [("send", 1), *((what, k + (what == "send")) for k in range(1, num + 1) for what in ("compute", "send"))][:-1]
    assert [event for event in events if event[0] != "wait"] == order  # one lies ready, never more
    waits = [k for what, k in events if what == "wait"]
    assert waits
    for k in waits:  # for the last but one, when the next has been sent
        before = events[: events.index(("wait", k))]
        assert before[-1] in (("send", k + 2), ("compute", num))
        assert ("compute", k + 2) not in before  # two in flight, never more

    with monkeypatch.context() as patch:
        patch.setattr(cnn_jax.train, "train_batches", signalled(cnn_jax.train.train_batches, signal.SIGTERM, at=14))
        with pytest.raises(Stopped):
            train(chunked, tmp_path / "c", num_devices=1)
    train(chunked, tmp_path / "c", num_devices=1)
    assert_trees_equal(final_state(tmp_path / "b"), final_state(tmp_path / "c"))
    assert records(tmp_path / "b") == records(tmp_path / "c")


def test_an_error_in_fetching_is_raised_when_its_item_is_due():
    def items():
        yield 1
        raise OSError("the disk is gone")

    ahead = feed.Ahead(items(), place=lambda item: item)
    assert next(ahead) == 1
    assert ahead.fetch() is None
    assert ahead.fetch() is None  # not fetched again
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)


def test_an_evaluation_brings_the_next_batch_before_it_reads_the_last(monkeypatch):
    """Without devices: the order of things alone."""
    events = []
    monkeypatch.setattr(cnn_jax.evaluate, "eval_batches", lambda *_, **__: iter(range(3)))
    parallel = make_parallel("jit", 1)._replace(shard=lambda batch: events.append(f"send {batch}") or batch)
    evaluator = Evaluator(build(CLASSIFIER), parallel, MemorySource(np.zeros((3, 8, 8, 1), np.uint8), np.arange(3)))
    evaluator.compiled = lambda _, batch: events.append("compute") or batch
    for batch in evaluator._computed({}):
        events.append(f"read {batch}")
    assert events == ["send 0", "compute", "send 1", "compute", "send 2", "read 0", "compute", "read 1", "read 2"]


class Arrays:
    """Arrays that are made when the test says so."""

    def __init__(self):
        self.made = threading.Event()

    def block_until_ready(self):
        self.made.wait()


def test_the_device_waits_from_the_end_of_its_work_until_its_data_are_there():
    with Idle() as idle:
        results, data = Arrays(), Arrays()
        idle.works_on(results)
        idle.fetched(data)
        (end, there), *_ = idle._gaps
        results.made.set()
        began = end.result()
        assert idle.take() == 0  # the copy goes on
        data.made.set()
        assert there.result() > began
        assert idle.take() == there.result() - began
        results, data = Arrays(), Arrays()
        data.made.set()  # before the work has ended
        idle.works_on(results)
        idle.fetched(data)
        ((end, there),) = idle._gaps
        there.result()
        results.made.set()
        end.result()
        assert idle.take() == 0
        idle.fetched(None)  # the end of the data
        assert not idle._gaps


def test_decoded_data_in_chunks(one_by_one, tmp_path):
    dataset = CLASSIFIER.dataset.replace(in_memory=False)
    decoded = dataclasses.replace(CLASSIFIER, dataset=dataset, workers=0, steps_per_dispatch=4)
    assert train(decoded, tmp_path, num_devices=1) == pytest.approx(one_by_one(CLASSIFIER)[0], rel=1e-5)


def test_one_compilation_however_chunks_are_cut(tmp_path, caplog):
    experiment = dataclasses.replace(CLASSIFIER, num_steps=11, eval_every=4, log_every=3, steps_per_dispatch=4)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        train(experiment, tmp_path, num_devices=1)
    compiled = re.findall(r"Finished XLA compilation of \w+\((train_steps|one_step|eval_step)\)", caplog.text)
    assert sorted(compiled) == ["eval_step", "train_steps"]


def test_the_log_says_how_long_the_device_has_waited(tmp_path, capsys):
    train(dataclasses.replace(CLASSIFIER, num_steps=5, eval_every=5, augment=(Spec("random_flip"),)), tmp_path, num_devices=1)
    assert re.search(r"images/s  waiting \d+ %", capsys.readouterr().out)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= line["waiting"] <= 1 for line in lines if line["split"] == "train")
