"""What a network's outputs are made into for a loss: embeddings or scores. Wrapped around any network."""

import flax.linen as nn

from cnn_jax.ops.arguments import check_function
from cnn_jax.ops.distance import unit_length


class Embedder(nn.Module):
    """A network whose outputs are scaled to unit length: embeddings [b, e] on the sphere.

    Attributes:
      network: called as network(x, train), whose outputs [b, e] are the embeddings before they are scaled.

    Raises:
      ValueError: `network` is no module.

    Reference: Schroff et al., "FaceNet", 2015, section 3.1.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers import Dropout
    >>> [round(x, 4) for x in Embedder(Dropout(0.0)).apply({}, jnp.array([[3.0, 4.0]]), train=False)[0].tolist()]
    [0.6, 0.8]
    """

    network: nn.Module

    def __call__(self, x, train: bool):
        check_function("network", self.network, "a Linen module, called as network(x, train)")
        return unit_length(self.network(x, train))


class Scorer(nn.Module):
    """A network with one output, read as a score an example: [b].

    Attributes:
      network: called as network(x, train), with outputs [b, 1].

    Raises:
      ValueError: `network` is no module, or gives other than one output.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers import Dropout
    >>> Scorer(Dropout(0.0)).apply({}, jnp.array([[3.0], [4.0]]), train=False).tolist()
    [3.0, 4.0]
    """

    network: nn.Module

    def __call__(self, x, train: bool):
        check_function("network", self.network, "a Linen module, called as network(x, train)")
        scores = self.network(x, train)
        if scores.shape[-1] != 1:
            raise ValueError(f"network gives {scores.shape[-1]} outputs for each example: a score is one, of num_outputs=1")
        return scores[..., 0]
