"""The table of contents: everything an experiment can name. To add something, add its line here."""

from collections.abc import Callable, Mapping
from typing import Any

from cnn_jax import optim
from cnn_jax.data import catalogue, samplers, unseen_classes
from cnn_jax.data.digits import digits
from cnn_jax.data.generated import generated
from cnn_jax.data.image_folder import image_folder
from cnn_jax.data.lfw_subset import lfw_subset
from cnn_jax.data.pairs import digits_pairs
from cnn_jax.losses.by_name import LOSSES, MINERS  # they have a file of their own for their number
from cnn_jax.metrics import accuracy, clustering, confusion, retrieval, verification
from cnn_jax.metrics import ranking as ranking_metrics
from cnn_jax.models import (
    alexnet,
    all_cnn,
    convnext,
    densenet,
    efficientnet,
    googlenet,
    inception_v3,
    lenet,
    mobilenet,
    plain,
    preactivation,
    resnet,
    vgg,
)
from cnn_jax.ops import augment

# (num_outputs=, dtype=, axis_name=, <options>) -> Linen module called as model(images, train)
MODELS = {
    "lenet5": lenet.LeNet5,
    "lenet5_modern": lenet.LeNet5Modern,
    "alexnet": alexnet.AlexNet,
    "alexnet_2012": alexnet.AlexNet2012,
    "vgg11": vgg.vgg11,
    "vgg13": vgg.vgg13,
    "vgg16": vgg.vgg16,
    "vgg19": vgg.vgg19,
    "vgg11_bn": vgg.vgg11_bn,
    "vgg13_bn": vgg.vgg13_bn,
    "vgg16_bn": vgg.vgg16_bn,
    "vgg19_bn": vgg.vgg19_bn,
    "resnet8": resnet.resnet8,
    "resnet20": resnet.resnet20,
    "resnet56": resnet.resnet56,
    "resnet110": resnet.resnet110,
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": resnet.resnet101,
    "resnet152": resnet.resnet152,
    "resnext50_32x4d": resnet.resnext50_32x4d,
    "resnext101_32x8d": resnet.resnext101_32x8d,
    "resnext101_64x4d": resnet.resnext101_64x4d,
    "wide_resnet50_2": resnet.wide_resnet50_2,
    "wide_resnet101_2": resnet.wide_resnet101_2,
    "seresnet18": resnet.seresnet18,
    "seresnet50": resnet.seresnet50,
    "resnet50d": resnet.resnet50d,
    "resnet101d": resnet.resnet101d,
    "resnet18_antialiased": resnet.resnet18_antialiased,
    "resnet50_antialiased": resnet.resnet50_antialiased,
    "preresnet20": preactivation.preresnet20,
    "preresnet56": preactivation.preresnet56,
    "preresnet110": preactivation.preresnet110,
    "preresnet164": preactivation.preresnet164,
    "preresnet18": preactivation.preresnet18,
    "preresnet34": preactivation.preresnet34,
    "preresnet50": preactivation.preresnet50,
    "preresnet101": preactivation.preresnet101,
    "preresnet152": preactivation.preresnet152,
    "preresnet200": preactivation.preresnet200,
    "wrn_16_4": preactivation.wrn_16_4,
    "wrn_16_8": preactivation.wrn_16_8,
    "wrn_28_10": preactivation.wrn_28_10,
    "wrn_40_2": preactivation.wrn_40_2,
    "wrn_40_4": preactivation.wrn_40_4,
    "plain20": plain.plain20,
    "plain56": plain.plain56,
    "plain18": plain.plain18,
    "plain34": plain.plain34,
    "all_cnn_c": all_cnn.AllCNN,
    "googlenet": googlenet.GoogLeNet,
    "inception_v3": inception_v3.InceptionV3,
    "mobilenet_v2": mobilenet.MobileNetV2,
    "efficientnet_b0": efficientnet.efficientnet_b0,
    "efficientnet_b1": efficientnet.efficientnet_b1,
    "efficientnet_b2": efficientnet.efficientnet_b2,
    "efficientnet_b3": efficientnet.efficientnet_b3,
    "efficientnet_b4": efficientnet.efficientnet_b4,
    "efficientnet_b5": efficientnet.efficientnet_b5,
    "efficientnet_b6": efficientnet.efficientnet_b6,
    "efficientnet_b7": efficientnet.efficientnet_b7,
    "densenet100": densenet.densenet100,
    "densenet121": densenet.densenet121,
    "densenet161": densenet.densenet161,
    "densenet169": densenet.densenet169,
    "densenet201": densenet.densenet201,
    "convnext_tiny": convnext.convnext_tiny,
    "convnext_small": convnext.convnext_small,
    "convnext_base": convnext.convnext_base,
    "convnext_large": convnext.convnext_large,
}

# (<options>) -> Dataset
DATASETS = {
    "digits": digits,
    "lfw_subset": lfw_subset,
    "mnist": catalogue.mnist,
    "fashion_mnist": catalogue.fashion_mnist,
    "cifar10": catalogue.cifar10,
    "cifar100": catalogue.cifar100,
    "imagenet2012": catalogue.imagenet2012,
    "digits_pairs": digits_pairs,
    "digits_unseen": unseen_classes.digits_unseen,
    "cars196": unseen_classes.cars196,
    "cub200": unseen_classes.cub200,
    "stanford_online_products": unseen_classes.stanford_online_products,
    "image_folder": image_folder,
    "generated": generated,
}

# (source, batch_size, <options>) -> (seed, step) -> indices of a batch
SAMPLERS = {
    "shuffled": samplers.shuffled,
    "classes_by_images": samplers.classes_by_images,
    "groups_by_classes": samplers.groups_by_classes,
}

# (key, images, <options>, axis_name=) -> images
AUGMENTATIONS = {
    "random_flip": augment.random_flip,
    "random_vertical_flip": augment.random_vertical_flip,
    "random_crop": augment.random_crop,
    "center_crop": augment.center_crop,
    "random_resized_crop": augment.random_resized_crop,
    "random_shift": augment.random_shift,
    "random_rotation": augment.random_rotation,
    "random_scale": augment.random_scale,
    "random_shear": augment.random_shear,
    "random_affine": augment.random_affine,
    "random_perspective": augment.random_perspective,
    "random_elastic": augment.random_elastic,
    "colour_jitter": augment.colour_jitter,
    "random_grey": augment.random_grey,
    "random_blur": augment.random_blur,
    "random_sharpness": augment.random_sharpness,
    "random_noise": augment.random_noise,
    "random_erase": augment.random_erase,
    "cutout": augment.cutout,
    "random_solarize": augment.random_solarize,
    "random_posterize": augment.random_posterize,
    "random_equalize": augment.random_equalize,
    "random_autocontrast": augment.random_autocontrast,
    "random_invert": augment.random_invert,
    "rand_augment": augment.rand_augment,
    "trivial_augment": augment.trivial_augment,
}

# (key, images, <options>, axis_name=) -> Mixed(images, partners, weights)
MIXTURES = {"mixup": augment.mixup, "cutmix": augment.cutmix, "mixup_or_cutmix": augment.mixup_or_cutmix}

# (logits | scores, targets, where=, <options>) -> sums and counts with .result()
METRICS = {
    "accuracy": accuracy.accuracy,
    "top_k": accuracy.top_k,
    "confusion": confusion.confusion,
    "ndcg": ranking_metrics.ndcg,
}

# (embeddings | distances, labels) of the whole test set -> what the metrics below read, made once for all of them
REPORTS = {
    "retrieval": retrieval.retrieval_report,
    "clustering": clustering.clustering_report,
    "verification": verification.verification_report,
}

# (retrieval | clustering | verification, <options>) -> float
RETRIEVAL = {
    "precision_at_1": retrieval.precision_at_1,
    "recall_at_k": retrieval.recall_at_k,
    "cmc": retrieval.cmc,
    "r_precision": retrieval.r_precision,
    "map_at_r": retrieval.map_at_r,
    "mean_average_precision": retrieval.mean_average_precision,
    "mrr": retrieval.mrr,
    "ndcg": retrieval.ndcg,
    "nmi": clustering.nmi,
    "ami": clustering.ami,
    "roc_auc": verification.roc_auc,
    "equal_error_rate": verification.equal_error_rate,
    "verification_accuracy": verification.verification_accuracy,
}

# (factor, <options>) -> optax.GradientTransformation
OPTIMIZERS = {"sgd": optim.sgd, "adamw": optim.adamw}

# (num_steps, <options>) -> step -> factor of the learning rate
SCHEDULES = {"constant": optim.constant, "warmup_cosine": optim.warmup_cosine, "piecewise": optim.piecewise}

# The registry of each field of an Experiment that holds a Spec, or a tuple of them.
BY_FIELD: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "model": MODELS,
    "dataset": DATASETS,
    "sampler": SAMPLERS,
    "augment": AUGMENTATIONS,
    "mix": MIXTURES,
    "loss": LOSSES,
    "miner": MINERS,
    "metrics": METRICS,
    "retrieval": RETRIEVAL,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
