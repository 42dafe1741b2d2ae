"""Random changes of a batch of images, on the device. One key a batch; each example's change depends on its place only.

Every augmentation is `f(key, images, *, <options>, axis_name=None) -> images` on [b, h, w, c] floats in [0, 1]; under pmap
`axis_name` names the device axis, so that the same global batch is changed the same way on any number of devices. What they are
made of, without chance, is public too: warps and adjustments of an image that can be called and plotted. Mixtures return
`Mixed`, for they change the targets as well.
"""

from cnn_jax.ops.augment.blur import adjust_sharpness, gaussian_blur, random_blur, random_sharpness
from cnn_jax.ops.augment.colour import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    colour_jitter,
    grey,
    random_grey,
)
from cnn_jax.ops.augment.crop import center_crop, random_crop, random_resized_crop, random_shift
from cnn_jax.ops.augment.flip import random_flip, random_vertical_flip
from cnn_jax.ops.augment.geometry import (
    random_affine,
    random_elastic,
    random_perspective,
    random_rotation,
    random_scale,
    random_shear,
)
from cnn_jax.ops.augment.mix import Mixed, cutmix, mixup, mixup_or_cutmix
from cnn_jax.ops.augment.noise import cutout, random_erase, random_noise
from cnn_jax.ops.augment.randaugment import rand_augment, trivial_augment
from cnn_jax.ops.augment.tone import (
    autocontrast,
    equalize,
    invert,
    posterize,
    random_autocontrast,
    random_equalize,
    random_invert,
    random_posterize,
    random_solarize,
    solarize,
)
from cnn_jax.ops.augment.warp import affine_matrix, affine_warp, displace, perspective_matrix, perspective_warp, rotate

__all__ = [
    "Mixed",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "adjust_sharpness",
    "affine_matrix",
    "affine_warp",
    "autocontrast",
    "center_crop",
    "colour_jitter",
    "cutmix",
    "cutout",
    "displace",
    "equalize",
    "gaussian_blur",
    "grey",
    "invert",
    "mixup",
    "mixup_or_cutmix",
    "perspective_matrix",
    "perspective_warp",
    "posterize",
    "rand_augment",
    "random_affine",
    "random_autocontrast",
    "random_blur",
    "random_crop",
    "random_elastic",
    "random_equalize",
    "random_erase",
    "random_flip",
    "random_grey",
    "random_invert",
    "random_noise",
    "random_perspective",
    "random_posterize",
    "random_resized_crop",
    "random_rotation",
    "random_scale",
    "random_sharpness",
    "random_shear",
    "random_shift",
    "random_solarize",
    "random_vertical_flip",
    "rotate",
    "solarize",
    "trivial_augment",
]
