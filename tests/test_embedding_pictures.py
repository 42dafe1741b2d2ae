"""What an evaluation of embeddings leaves to look at: the points, the sheet of worst retrievals, the projector's files."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from cnn_jax import embedding_files
from cnn_jax.data.source import MemorySource
from cnn_jax.embedding_files import write_embedding_files
from cnn_jax.embedding_picture import draw_embeddings, plane_by_pca
from cnn_jax.errors import UserError
from cnn_jax.evaluate import evaluate_workdir
from cnn_jax.experiment import Spec
from cnn_jax.metrics.retrieval import retrieval_report
from cnn_jax.projector import sprite, write_projector
from cnn_jax.train import train
from cnn_jax.worst_retrievals import worst_retrievals
from tests.runs import TRIPLET

NAMES = ("cat", "dog, 5 $ or 10 $", "a bird with a rather long name")


def make_case(n=24, e=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([0, 1, 2], [12, 7, 5]))[:n]
    images = rng.integers(256, size=(n, 6, 8, 3), dtype=np.uint8)
    return rng.normal(size=(n, e)) * np.linspace(0.5, 2, e) + labels[:, None], labels, images


def is_png(path):
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
        return picture.format == "PNG" and pixels.std() > 5


def test_pca_finds_the_plane_of_most_variance():
    x, *_ = make_case()
    points, share = plane_by_pca(x)
    _, values, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs((x - x.mean(0)) @ axes[:2].T), rtol=1e-7, atol=1e-9)
    assert share == pytest.approx(np.square(values[:2]).sum() / np.square(values).sum())
    np.testing.assert_allclose(plane_by_pca(-x)[0], -points, atol=1e-9)  # directions do not turn about
    assert plane_by_pca(x[:, :1])[0].shape == (24, 2)
    assert (plane_by_pca(np.ones((3, 4)))[0] == 0).all()


def test_the_picture_shows_points_by_both_methods_where_it_can(tmp_path):
    x, labels, _ = make_case()
    assert draw_embeddings(x, labels, tmp_path / "new" / "x.png", class_names=NAMES) == ["PCA", "t-SNE"]
    assert is_png(tmp_path / "new" / "x.png")
    assert draw_embeddings(x[:3], labels[:3], tmp_path / "few.png", class_names=NAMES) == ["PCA"]
    assert draw_embeddings(np.ones((12, 3)), np.arange(12) % 3, tmp_path / "same.png", class_names=NAMES) == ["PCA"]
    many = np.arange(60)
    assert draw_embeddings(x[many % 24] + many[:, None], many, tmp_path / "many.png", class_names=tuple(map(str, many)))[0] == "PCA"


def test_the_worst_are_those_whose_class_is_farthest_down():
    x, labels, _ = make_case()
    x[4], labels[4] = 50.0, 0  # far away from its class
    labels[7] = 9  # alone: it has nothing to find
    retrieval = retrieval_report(x, labels)
    found = worst_retrievals(x, retrieval, num=30, num_neighbours=3)
    assert len(found) == 23
    assert found[0].query != 7
    ranks = [f.rank for f in found]
    assert ranks == sorted(ranks, reverse=True)
    for one in found:
        distances = np.sqrt(((x - x[one.query]) ** 2).sum(1))
        others = [i for i in np.argsort(distances) if i != one.query]
        mates = [i for i in others if labels[i] == labels[one.query]]
        assert one.neighbours == others[:3]
        assert (one.mate, one.rank) == (mates[0], others.index(mates[0]) + 1)
        np.testing.assert_allclose([*one.distances, one.mate_distance], distances[[*others[:3], mates[0]]])
    assert worst_retrievals(np.eye(3), retrieval_report(np.eye(3), np.arange(3))) == []


def test_the_projector_finds_what_its_configuration_names(tmp_path):
    x, labels, images = make_case()
    names = ("cat", "dog\t(large)", "bird")
    write_projector(tmp_path / "new", x, labels, images, class_names=names)
    config = (tmp_path / "new" / "projector_config.pbtxt").read_text()
    named = {line.split('"')[1] for line in config.splitlines() if "path" in line}
    assert named | {"projector_config.pbtxt"} == {path.name for path in (tmp_path / "new").iterdir()}
    assert config.count("single_image_dim: 8\n    single_image_dim: 6") == 1  # width, height
    np.testing.assert_allclose(np.loadtxt(tmp_path / "new" / "tensors.tsv", delimiter="\t"), x, rtol=1e-5)
    header, *lines = (tmp_path / "new" / "metadata.tsv").read_text().splitlines()
    assert header == "class\tindex"
    assert lines == [f"{names[label].replace(chr(9), ' ')}\t{i}" for i, label in enumerate(labels)]
    with Image.open(tmp_path / "new" / "sprite.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (5 * 6, 5 * 8, 3)
    np.testing.assert_array_equal(pixels[2 * 6 : 3 * 6, 8:16], images[11])  # row 2, column 1


def test_thumbnails_fit_on_a_sheet():
    sheet, size = sprite(np.zeros((900, 200, 300, 1), np.uint8))
    assert max(sheet.size) <= 4096
    assert size == (90, 136)


def test_what_cannot_be_drawn_is_said(tmp_path, capsys, monkeypatch):
    x, labels, images = make_case()
    retrieval, source = retrieval_report(x, labels), MemorySource(images, labels)
    write_embedding_files(tmp_path, np.full_like(x, np.nan), retrieval, source, NAMES)
    assert capsys.readouterr().out == "the embeddings are not all finite: no pictures of them are drawn\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="The pictures cannot be written to .*file: "):
        write_embedding_files(tmp_path / "file", x, retrieval, source, NAMES)
    monkeypatch.setattr(embedding_files, "_MOST_POINTS", 10)
    write_embedding_files(tmp_path, x, retrieval, source, NAMES)
    assert "10 of 24 embeddings by PCA and t-SNE" in capsys.readouterr().out
    assert len((tmp_path / "tensorboard" / "tensors.tsv").read_text().splitlines()) == 10


def test_a_run_is_diagnosed_and_leaves_its_pictures(tmp_path, capsys, monkeypatch):
    every = ("precision_at_1", "recall_at_1", "cmc_5", "r_precision", "map_at_r", "mean_average_precision", "mrr", "ndcg", "nmi", "ami")
    specs = tuple(Spec({"recall_at_1": "recall_at_k", "cmc_5": "cmc"}.get(name, name)) for name in every)
    monkeypatch.setattr("cnn_jax.loop.collapse_warning", lambda means: "point collapse" if "embeddings/norm" in means else None)
    train(dataclasses.replace(TRIPLET, retrieval=specs, num_steps=12, eval_every=12), tmp_path)
    assert capsys.readouterr().out.count("warning: at step 5, point collapse\n") == 1
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    diagnosed = [r["step"] for r in records if "embeddings/effective_rank" in r]
    assert diagnosed == [5, 12]  # the windows of updates 1 and 11
    assert records[-1].keys() >= set(every)
    evaluation = evaluate_workdir(tmp_path, dataclasses.replace(TRIPLET, retrieval=specs), step=None, mode="jit", num_devices=1)
    said = capsys.readouterr().out
    assert "warning" not in said
    assert "MAP@R" in said
    for name in ("embeddings.png", "worst_retrievals.png"):
        assert is_png(tmp_path / name)
        assert f"wrote {tmp_path / name}" in said
    assert "projector_config.pbtxt" in said
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert saved["recall_at_1"] == saved["precision_at_1"] == saved["cmc"][0] == evaluation.figures["recall_at_1"]
    assert saved["retrieval_per_class"]["queries"] == np.bincount(evaluation.targets).tolist()
    lines = (tmp_path / "predictions.csv").read_text().splitlines()[1:]
    assert np.mean([line.split(",")[1] == line.split(",")[3] for line in lines]) == pytest.approx(saved["recall_at_1"])
