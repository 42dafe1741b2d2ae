"""The registered experiments. To add one: a file here with one value, and its line below."""

from cnn_jax.experiment import Experiment
from experiments import (
    cifar10_resnet18,
    cifar100_resnet18,
    digits_lenet5,
    digits_resnet,
    digits_resnet_triplet,
    imagenet_resnet50,
    lfw_resnet,
    mnist_lenet5,
)

EXPERIMENTS: dict[str, Experiment] = {
    "digits_resnet": digits_resnet.EXPERIMENT,
    "digits_lenet5": digits_lenet5.EXPERIMENT,
    "digits_resnet_triplet": digits_resnet_triplet.EXPERIMENT,
    "lfw_resnet": lfw_resnet.EXPERIMENT,
    "mnist_lenet5": mnist_lenet5.EXPERIMENT,
    "cifar10_resnet18": cifar10_resnet18.EXPERIMENT,
    "cifar100_resnet18": cifar100_resnet18.EXPERIMENT,
    "imagenet_resnet50": imagenet_resnet50.EXPERIMENT,
}
DEFAULT = "digits_resnet"
