"""Records are there whole or not at all: half a line, a full disk, a file that is none of ours."""

import json

import pytest

from cnn_jax.lines import Lines


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_half_a_line_is_dropped_and_the_rest_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = Lines(path)
    for step in (1, 2, 3):
        lines.add({"step": step})
    with open(path, "a") as file:
        file.write('{"step": 4')  # killed in the middle
    lines = Lines(path)
    lines.keep(lambda record: record["step"] <= 2)
    lines.add({"step": 3})
    assert records(path) == [{"step": 1}, {"step": 2}, {"step": 3}]


def test_nothing_is_written_anew_where_nothing_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    Lines(path).add({"step": 1})
    before = path.stat().st_ino
    Lines(path).keep(lambda record: True)
    assert path.stat().st_ino == before


def test_what_cannot_be_written_is_written_later_in_its_order(tmp_path):
    """A real refusal: the folder is gone, and comes back; then half a line is there that another write had begun."""
    folder = tmp_path / "run"
    folder.mkdir()
    lines = Lines(folder / "metrics.jsonl")
    lines.add({"step": 1})
    folder.rename(tmp_path / "away")
    for step in (2, 3):
        with pytest.raises(FileNotFoundError):
            lines.add({"step": step})
    (tmp_path / "away").rename(folder)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    lines.add({"step": 4})
    assert records(folder / "metrics.jsonl") == [{"step": step} for step in (1, 2, 3, 4)]


def test_a_file_that_has_taken_its_place_is_not_cut(tmp_path):
    """A disk that was gone for a while and is mounted again."""
    path = tmp_path / "metrics.jsonl"
    lines = Lines(path)
    lines.add({"step": 1})
    path.rename(tmp_path / "old")
    path.write_text('{"step": 8}\n{"step": 9}\n')
    lines.add({"step": 2})
    assert records(path) == [{"step": 8}, {"step": 9}, {"step": 2}]


RUBBISH = [b"\xff\xfe\x00", b"[1, 2]\n", b"null\n", b'"text"\n', b"[" * 100_000 + b"\n", b'{"step": {}}\n', b"9" * 9999]


@pytest.mark.parametrize("content", RUBBISH)
def test_what_is_no_record_is_dropped(content, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content + b'\n{"step": 1}\n')
    lines = Lines(path)
    lines.keep(lambda record: record["step"] <= 5)
    assert records(path) == [{"step": 1}]


def test_a_file_of_zeros_takes_no_memory(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with open(path, "wb") as file:
        file.truncate(2**30)
    lines = Lines(path)
    lines.keep(lambda record: True)
    assert path.stat().st_size == 0
