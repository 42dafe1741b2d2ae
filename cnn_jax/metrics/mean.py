"""A mean as a sum and a count, so that batches merge by addition and are divided only when shown."""

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.metrics.checks import check_where
from cnn_jax.ops.arguments import check_array
from cnn_jax.types import ArrayLike


class Mean(flax.struct.PyTreeNode):
    """Sum and count of per-example values. `result()` is their ratio, NaN when nothing was counted.

    Raises:
      ValueError: (from `of`) values are not [b], or `where` no booleans [b].

    >>> a, b = Mean.of(jnp.array([1.0])), Mean.of(jnp.array([4.0, 4.0]))
    >>> Mean(a.total + b.total, a.count + b.count).result()
    3.0
    """

    total: ArrayLike
    count: ArrayLike

    @classmethod
    def of(cls, values: Float[Array, "b"], where: Bool[Array, "b"] | None = None) -> "Mean":
        """Returns the sum and count of the values that count.

        >>> Mean.of(jnp.array([1.0, 3.0])).result()
        2.0
        """
        check_array("values", values)
        if values.ndim != 1:
            raise ValueError(f"values {list(values.shape)} must be [b]")
        check_where(where, len(values))
        where = jnp.ones(values.shape, bool) if where is None else where
        return cls(jnp.where(where, values, 0).sum(), where.sum())

    def result(self) -> float:
        return float(self.total) / float(self.count) if self.count else float("nan")
