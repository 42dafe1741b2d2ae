"""The registered experiments. To add one: a file here with one value, and its line below."""

from cnn_jax.experiment import Experiment
from experiments import (
    cars196_resnet50_triplet,
    cifar10_resnet18,
    cifar100_resnet18,
    cub200_resnet50_multi_similarity,
    digits_lenet5,
    digits_pairs_resnet_contrastive,
    digits_resnet,
    digits_resnet_arcface,
    digits_resnet_contrastive,
    digits_resnet_ranking,
    digits_resnet_supcon,
    digits_resnet_triplet,
    digits_unseen_resnet_contrastive,
    imagenet_resnet50,
    lfw_resnet,
    mnist_lenet5,
    stanford_online_products_resnet50_supcon,
)

EXPERIMENTS: dict[str, Experiment] = {
    "digits_resnet": digits_resnet.EXPERIMENT,
    "digits_lenet5": digits_lenet5.EXPERIMENT,
    "digits_resnet_triplet": digits_resnet_triplet.EXPERIMENT,
    "digits_resnet_contrastive": digits_resnet_contrastive.EXPERIMENT,
    "digits_resnet_supcon": digits_resnet_supcon.EXPERIMENT,
    "digits_resnet_arcface": digits_resnet_arcface.EXPERIMENT,
    "digits_resnet_ranking": digits_resnet_ranking.EXPERIMENT,
    "digits_unseen_resnet_contrastive": digits_unseen_resnet_contrastive.EXPERIMENT,
    "digits_pairs_resnet_contrastive": digits_pairs_resnet_contrastive.EXPERIMENT,
    "lfw_resnet": lfw_resnet.EXPERIMENT,
    "mnist_lenet5": mnist_lenet5.EXPERIMENT,
    "cifar10_resnet18": cifar10_resnet18.EXPERIMENT,
    "cifar100_resnet18": cifar100_resnet18.EXPERIMENT,
    "imagenet_resnet50": imagenet_resnet50.EXPERIMENT,
    "cars196_resnet50_triplet": cars196_resnet50_triplet.EXPERIMENT,
    "cub200_resnet50_multi_similarity": cub200_resnet50_multi_similarity.EXPERIMENT,
    "stanford_online_products_resnet50_supcon": stanford_online_products_resnet50_supcon.EXPERIMENT,
}
DEFAULT = "digits_resnet"
