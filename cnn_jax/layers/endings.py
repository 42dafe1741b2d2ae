"""What a network's outputs are made into for a loss: embeddings or scores. Wrapped around any network."""

import flax.linen as nn

from cnn_jax.ops.arguments import check_function
from cnn_jax.ops.distance import unit_length


class Embedder(nn.Module):
    """A network whose outputs are scaled to unit length: embeddings [b, e] on the sphere."""

    network: nn.Module

    def __call__(self, x, train: bool):
        check_function("network", self.network, "a Linen module, called as network(x, train)")
        return unit_length(self.network(x, train))


class Scorer(nn.Module):
    """A network with one output, read as a score an example: [b]."""

    network: nn.Module

    def __call__(self, x, train: bool):
        check_function("network", self.network, "a Linen module, called as network(x, train)")
        scores = self.network(x, train)
        if scores.shape[-1] != 1:
            raise ValueError(f"network gives {scores.shape[-1]} outputs for each example: a score is one, of num_outputs=1")
        return scores[..., 0]
