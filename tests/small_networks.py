"""One small network of each family from Inception to ConvNeXt: how it is made, its images' side, the features before its head."""

from functools import partial

from cnn_jax.models import convnext, densenet, efficientnet, googlenet, inception_v3, mobilenet

SMALL = {
    "googlenet": (partial(googlenet.GoogLeNet, auxiliary=True, dropout=0.0, auxiliary_dropout=0.0), 40, 1024),
    "inception_v3": (partial(inception_v3.InceptionV3, auxiliary=True, dropout=0.0), 299, 2048),
    "mobilenet": (partial(mobilenet.MobileNetV2, width=0.35, dropout=0.0), 40, 1280),
    "efficientnet": (partial(efficientnet.efficientnet_b0, width=0.3, depth=0.6, dropout=0.0, stochastic_depth=0.0), 40, 384),
    "densenet": (partial(densenet.densenet121, block_sizes=(2, 3, 1), growth=8, width=12), 40, 27),
    "convnext": (partial(convnext.convnext_tiny, stage_sizes=(1, 2, 1), widths=(8, 12, 20), stochastic_depth=0.0), 40, 20),
}
