"""The table of contents: everything an experiment can name. To add something, add its line here."""

from collections.abc import Callable, Mapping
from typing import Any

from cnn_jax import optim
from cnn_jax.data import catalogue
from cnn_jax.data.digits import digits
from cnn_jax.data.generated import generated
from cnn_jax.data.lfw_subset import lfw_subset
from cnn_jax.losses import classification, contrastive, ranking, triplet
from cnn_jax.metrics import accuracy, confusion, retrieval
from cnn_jax.models import lenet, resnet
from cnn_jax.ops import augment

# (num_outputs=, dtype=, axis_name=, <options>) -> Linen module called as model(images, train)
MODELS = {
    "lenet5": lenet.LeNet5,
    "lenet5_modern": lenet.LeNet5Modern,
    "resnet8": resnet.resnet8,
    "resnet20": resnet.resnet20,
    "resnet56": resnet.resnet56,
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": resnet.resnet101,
    "resnet152": resnet.resnet152,
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
    "generated": generated,
}

# (key, images, <options>, axis_name=) -> images
AUGMENTATIONS = {
    "random_flip": augment.random_flip,
    "random_shift": augment.random_shift,
    "random_resized_crop": augment.random_resized_crop,
}

# (logits | embeddings | scores, targets, where=, <options>) -> [b]
LOSSES = {
    "softmax_cross_entropy": classification.softmax_cross_entropy,
    "triplet_batch_hard": triplet.triplet_batch_hard,
    "triplet_batch_all": triplet.triplet_batch_all,
    "triplet_semi_hard": triplet.triplet_semi_hard,
    "contrastive": contrastive.contrastive,
    "margin_ranking": ranking.margin_ranking,
}

# (logits, targets, where=, <options>) -> sums and counts with .result()
METRICS = {
    "accuracy": accuracy.accuracy,
    "top_k": accuracy.top_k,
    "confusion": confusion.confusion,
}

# (embeddings, labels, <options>) -> float, over the whole test set
RETRIEVAL = {"recall_at_k": retrieval.recall_at_k}

# (factor, <options>) -> optax.GradientTransformation
OPTIMIZERS = {"sgd": optim.sgd, "adamw": optim.adamw}

# (num_steps, <options>) -> step -> factor of the learning rate
SCHEDULES = {"constant": optim.constant, "warmup_cosine": optim.warmup_cosine, "piecewise": optim.piecewise}

# The registry of each field of an Experiment that holds a Spec, or a tuple of them.
BY_FIELD: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "model": MODELS,
    "dataset": DATASETS,
    "augment": AUGMENTATIONS,
    "loss": LOSSES,
    "metrics": METRICS,
    "retrieval": RETRIEVAL,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
