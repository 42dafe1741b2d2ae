"""Operations and layers refuse what they cannot do: the message names the argument, its value and what is allowed."""

import jax
import jax.numpy as jnp
import pytest

from cnn_jax import layers
from cnn_jax.ops import activations, arithmetic, augment, conv, distance, dropout, kernels, norm, padding, pool, random, windows
from cnn_jax.ops.augment.colour import blend
from cnn_jax.ops.max_pool import max_pool

KEY = jax.random.key(0)
X, IMAGES = jnp.zeros((2, 8, 8, 6)), jnp.zeros((2, 8, 8, 3))


def start(layer, **options):
    return lambda: layer.init(KEY, X, **options)


def strided(size):
    return jnp.zeros((3, 3, size, 2))


OPERATIONS = [
    (lambda: activations.softmin(X, axis=4), r"axis=4 is none of the 4 axes of shape \(2, 8, 8, 6\): it must be in \[-4, 3\]"),
    (lambda: activations.softmin([1.0]), r"x must be an array of real numbers, got \[1.0\] \(list\)"),
    (lambda: arithmetic.num_weights((3, 0), 6, 8), r"window=\(3, 0\) must be a whole number of at least 1 for each spatial axis"),
    (lambda: arithmetic.num_weights(3, 6, 8), "window=3 must be a whole number of at least 1 for each spatial axis"),
    (lambda: arithmetic.num_weights((3, 2.5), 6, 8), r"window=\(3, 2.5\) must be a whole number"),
    (lambda: arithmetic.num_macs((8, 8), (3, -1), 6, 8), r"window=\(3, -1\) must be a whole number of at least 1"),
    (lambda: arithmetic.num_macs((8, 8), "33", 6, 8), "window='33' must be a whole number of at least 1"),
    (lambda: arithmetic.num_macs((8, 8), (3, 3), 6, True), "c_out=True must be a whole number of at least 1"),
    (lambda: arithmetic.num_neurons((8, 8), (3, 3), 6, stride=-2), "stride=-2 must be whole numbers of at least 1"),
    (lambda: arithmetic.num_connections((8, 8), (3,), 1, 6), r"window=\(3,\) must have one number for each axis of sizes=\(8, 8\)"),
    (lambda: arithmetic.num_connections((8, 8), (3, 3), 1, 6, use_bias="no"), "use_bias='no' must be True or False"),
    (lambda: conv.convolve(X, [1.0]), r"kernel must be an array of real numbers, got \[1.0\] \(list\)"),
    (lambda: conv.convolve(X, strided(6), stride=-2), "stride=-2 must be whole numbers of at least 1"),
    (lambda: conv.separable_correlate(X, strided(6), jnp.zeros((6, 4))), r"pointwise_kernel must be \[12, c_out\].*got shape \(6, 4\)"),
    (lambda: conv.separable_correlate(X, strided(5), jnp.zeros((12, 4))), r"kernel \(3, 3, 5, 2\) holds kernels for 5 channels, .* have 6"),
    (lambda: conv.correlate(X.astype(jnp.float16), strided(6)), "inputs are float16 and the kernel is float32: convert one"),
    (lambda: distance.squared_distances(IMAGES[0, 0], X[0, 0]), r"y must be \[n, e\], rows of one length.*shapes \(8, 3\) and \(8, 6\)"),
    (lambda: distance.unit_length(X, epsilon=-1.0), "epsilon=-1.0 must be finite and not negative"),
    (lambda: distance.unit_length(jnp.zeros(())), r"x must be \[\*b, e\], got shape \(\)"),
    (lambda: norm.nearby_mean(X, where=jnp.ones(2)), r"where must hold one boolean an example, shape \(2,\), got float32 \(2,\)"),
    (lambda: norm.num_values(X, where=jnp.ones(3, bool)), r"where must hold one boolean an example, shape \(2,\), got bool \(3,\)"),
    (lambda: norm.instance_norm(jnp.zeros((2, 1, 3))), r"inputs must be .* more than one position in space, got shape \(2, 1, 3\)"),
    (lambda: padding.per_axis((1, 2, 3), 2, "stride"), r"stride=\(1, 2, 3\) has 3 number\(s\) for 2 spatial axes: give one for all"),
    (lambda: padding.pad_space(X, [(9, 9), (0, 0)], border="reflect"), r"reflect border of \(9, 9\) is too wide for 8 values: at most 7"),
    (lambda: padding.pad_space(X, [(-1, 0), (0, 0)]), r"pads=\[\(-1, 0\), \(0, 0\)\] must be whole numbers of at least 0"),
    (lambda: padding.pad_space(X, [(1, 0)]), r"pads=\[\(1, 0\)\] has 1 entries for 2 spatial axes: give one for each"),
    (lambda: pool.average_pool(X, 2, stride=-2), "stride=-2 must be whole numbers of at least 1"),
    (lambda: max_pool(X, 3, padding=2), r"padding=2 must be at most half the window's span \(3, 3\)"),
    (lambda: max_pool(X, 3, padding="SMAE"), r"padding='SMAE' is unknown \(did you mean SAME\?\): VALID, SAME, CAUSAL, a number"),
    (lambda: max_pool(X, 3, ceil_mode=1), "ceil_mode=1 must be True or False"),
    (lambda: windows.sliding_windows(X, 0), "window=0 must be whole numbers of at least 1"),
    (lambda: windows.spatial_sizes(X[0, 0, 0]), r"inputs must be \[b, \*space, c\] with 1 to 3 spatial axes.*got shape \(6,\)"),
    (lambda: random.example_keys(0, 4), r"key=0 must be one random key, such as jax.random.key\(0\)"),
    (lambda: random.example_keys(KEY, -1), "num=-1 must be a whole number of at least 0"),
    (lambda: dropout.dropout(KEY, X, rate=1.5), r"rate=1.5 must be in \[0, 1\]"),
    (lambda: kernels.apply_kernel(IMAGES, jnp.ones((3, 3)), border="mirror"), "border='mirror' is unknown: zeros, reflect, replicate"),
    (lambda: kernels.apply_kernel(IMAGES, jnp.ones(3)), r"kernel must be \[kh, kw\] and not empty, got shape \(3,\)"),
    (lambda: augment.solarize(IMAGES, 1.5), "threshold=1.5 must be from 0 to 1"),
    (lambda: augment.adjust_brightness(IMAGES, -1.0), "factor=-1.0 must be at least 0 and finite"),
    (lambda: augment.adjust_sharpness(IMAGES[0], None), "factor=None must be at least 0 and finite"),
    (lambda: augment.adjust_hue(IMAGES, "red"), r"turns='red' must be finite \(str is no number\)"),
    (lambda: augment.random_flip(0, IMAGES), "key=0 must be one random key"),
    (lambda: blend(IMAGES, X, 0.5), r"others \(2, 8, 8, 6\) must have the shape of the images, \(2, 8, 8, 3\), or one that broadcasts"),
]
LAYERS = [
    (start(layers.Dense(2.5)), "features=2.5 must be at least 1, a whole number"),
    (start(layers.Dense(True)), "features=True must be at least 1, a whole number"),
    (start(layers.Dense(4, dtype="int32")), "dtype='int32' must be a type of floats"),
    (start(layers.Conv(True, (3, 3))), "features=True must be a whole number of at least 1"),
    (start(layers.Conv(4, (3, 3), use_bias="no")), "use_bias='no' must be True or False"),
    (start(layers.Conv(4, (3, 3), kernel_init="he_normal")), "kernel_init='he_normal' must be a function"),
    (start(layers.SeparableConv(2.5, (3, 3))), "features=2.5 must be a whole number of at least 1"),
    (start(layers.SeparableConv(4, (3, 3), multiplier=0)), "multiplier=0 must be a whole number of at least 1"),
    (start(layers.SeparableConv(4, (3,))), r"window=\(3,\) is for inputs \[b, \*space, c\] with 1 spatial axes, got shape \(2, 8, 8, 6\)"),
    (start(layers.ConvTranspose(4, (3, 3), stride=0)), "stride=0 must be whole numbers of at least 1"),
    (start(layers.ConvTranspose(4, (3, 3), stride=2, output_padding=2)), r"output_padding=\(2, 2\) must be smaller than the stride"),
    (start(layers.BatchNorm(momentum="x"), train=True), r"momentum='x' must be in \[0, 1\]"),
    (start(layers.BatchNorm(frozen=1), train=True), "frozen=1 must be True or False"),
    (start(layers.GroupNorm(groups=4)), "groups=4 must be at least 1 and divide the number of channels, which is 6"),
    (start(layers.LayerNorm(epsilon=-1.0)), "epsilon=-1.0 must be finite and not negative"),
    (start(layers.InstanceNorm(affine="no")), "affine='no' must be True or False"),
    (start(layers.RMSNorm(epsilon=None)), r"epsilon=None must be finite and not negative.*NoneType is no number"),
    (start(layers.PReLU(per_channel="yes")), "per_channel='yes' must be True or False"),
    (start(layers.PReLU(slope_init=None)), "slope_init=None must be finite"),
    (start(layers.SqueezeExcitation(0)), "hidden=0 must be at least 1, a whole number"),
    (start(layers.Dropout("half"), train=True), r"rate='half' must be in \[0, 1\]"),
    (start(layers.Embedder(3), train=True), r"network=3 must be a Linen module, called as network\(x, train\)"),
    (start(layers.Scorer(3), train=True), r"network=3 must be a Linen module, called as network\(x, train\)"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "message"), [pytest.param(*case, id=case[1]) for case in OPERATIONS + LAYERS])
def test_what_is_not_allowed_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_scorer_needs_one_output():
    with pytest.raises(ValueError, match="network gives 6 outputs for each example: a score is one, of num_outputs=1"):
        layers.Scorer(layers.Dropout(0.0)).apply({}, X, train=False)
