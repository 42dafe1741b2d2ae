"""`--mode=cache_data`: the decoded images of a data set written to disk, once, so that runs need not decode them again and again."""

import math
import shutil
from pathlib import Path

from cnn_jax.build import build
from cnn_jax.data.image_cache import DamagedCache, open_cache, unfinished, write_cache
from cnn_jax.data.source import DecodedSource
from cnn_jax.errors import UserError
from cnn_jax.experiment import Experiment
from cnn_jax.report import num_bytes, progress, say, times


def cache_data(experiment: Experiment) -> None:
    """Writes both splits' images, as far as that is not done, and says how large they are.

    Raises:
      UserError: the settings do not work, the disk has not enough space, or cannot be written.
    """
    dataset = build(experiment).dataset
    if dataset.decoded is None:
        say(f"{dataset.name} is held in memory, and not decoded again and again: there is nothing to cache")
        return
    shapes = {"train": dataset.train_shape, "test": dataset.input_shape}
    sources = {split: dataset.decoded(split) for split in shapes}
    try:
        missing = [split for split, source in sources.items() if not _is_cached(split, source)]
        for split in missing:
            size, there = _size(sources[split], shapes[split]), _written(sources[split])
            begun = f", {num_bytes(there)} of it there already" if there else ""
            say(f"{split}: {len(sources[split]):,} images of {times(shapes[split])} bytes are {num_bytes(size)}{begun}")
        _check_space(sum(_size(sources[s], shapes[s]) - _written(sources[s]) for s in missing), sources["train"].cache)
        for split in missing:
            source = sources[split]
            progress(f"caching {split}", write_cache(source, shapes[split], workers=experiment.workers), total=len(source))
            say(f"wrote {source.cache}: {num_bytes(sum(file.stat().st_size for file in source.cache.iterdir()))}")
    except OSError as error:
        raise UserError(
            f"The images cannot be cached: {error}. What was written is kept; the same command continues from there. "
            f"--set dataset.data_dir=FOLDER names another folder of data."
        ) from error


def _is_cached(split: str, source: DecodedSource) -> bool:
    """Whether there is a cache of which each image is what was written; one that is damaged is removed."""
    try:
        cache = open_cache(source)
        if cache is None:
            return False
        progress(f"checking {split}", cache.check(), total=len(cache))
    except DamagedCache as error:
        say(f"the cached images in {source.cache} are damaged and written anew: {error.what}")
        shutil.rmtree(source.cache)
        return False
    say(f"already cached: {len(cache):,} {split} images, {num_bytes(cache.images.nbytes)}, in {cache.folder}")
    return True


def _size(source: DecodedSource, shape: tuple[int, ...]) -> int:
    return len(source) * math.prod(shape)


def _written(source: DecodedSource) -> int:
    """The bytes that an interrupted writing has left, to be continued."""
    images = unfinished(source.cache) / "images.npy"
    return images.stat().st_size if images.exists() else 0


def _check_space(needed: int, folder: Path) -> None:
    there = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{num_bytes(needed)} of images are to be written, but {there} has {num_bytes(free)} free. Make room there, "
            f"or move the data to a larger disk and name it with --set dataset.data_dir=FOLDER."
        )
