"""What a network's outputs are made into for a loss: embeddings, scores, or distances of pairs. Wrapped around any network."""

import flax.linen as nn
import jax.numpy as jnp

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


class Siamese(nn.Module):
    """A network applied to both images of a pair, with the same weights; gives the Euclidean distance of their embeddings: [b].

    A pair is one array whose channels are those of the first image, then those of the second. BatchNorm sees both images.

    Attributes:
      network: called as network(x, train), whose outputs [b, e] are scaled to unit length, so that distances are from 0 to 2.

    Raises:
      ValueError: `network` is no module, or the number of channels is odd.

    Reference: Bromley et al., "Signature verification using a Siamese time delay neural network", 1993.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers import Dropout
    >>> Siamese(Dropout(0.0)).apply({}, jnp.array([[3.0, 0.0, -3.0, 0.0]]), train=False).tolist()
    [2.0]
    """

    network: nn.Module

    def __call__(self, x, train: bool):
        check_function("network", self.network, "a Linen module, called as network(x, train)")
        if x.shape[-1] % 2:
            raise ValueError(f"a pair of images has an even number of channels, got {x.shape[-1]}: those of the first, then of the second")
        # The two of a pair stay side by side, so that an example's place in the global batch does not depend on the devices.
        images = jnp.stack(jnp.split(x, 2, axis=-1), axis=1)
        embeddings = unit_length(self.network(images.reshape(-1, *images.shape[2:]), train))
        first, second = jnp.moveaxis(embeddings.reshape(len(x), 2, -1), 1, 0)
        squares = jnp.square(first - second).sum(-1)
        coincide = squares == 0
        return jnp.where(coincide, 0, jnp.sqrt(jnp.where(coincide, 1, squares)))  # gradient 0, not NaN, for two that coincide
