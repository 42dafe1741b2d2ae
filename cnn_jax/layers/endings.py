"""What a network's outputs are made into for a loss: embeddings or scores. Wrapped around any network."""

import flax.linen as nn

from cnn_jax.ops.distance import unit_length


class Embedder(nn.Module):
    """A network whose outputs are scaled to unit length: embeddings [b, e] on the sphere."""

    network: nn.Module

    def __call__(self, x, train: bool):
        return unit_length(self.network(x, train))


class Scorer(nn.Module):
    """A network with one output, read as a score an example: [b]."""

    network: nn.Module

    def __call__(self, x, train: bool):
        return self.network(x, train)[..., 0]
