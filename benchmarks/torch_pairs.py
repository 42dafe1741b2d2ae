"""What is compared with what, what cannot be, and why two may differ. Text only: it is read without torch."""

# Our name -> torch's. F is torch.nn.functional, nn torch.nn, init torch.nn.init; "composed" stands before a formula made of torch's
# functions where torch has no single one.
PAIRS = {
    "Convolution and padding": {
        "ops.conv.correlate": "F.conv1d/2d/3d",
        "ops.conv.convolve": "F.conv1d/2d/3d, kernel mirrored",
        "ops.conv.depthwise_correlate": "F.conv1d/2d/3d, groups = channels",
        "ops.conv.separable_correlate": "composed: F.conv1d/2d/3d twice",
        "ops.conv.transposed_correlate": "F.conv_transpose1d/2d/3d",
        "ops.padding.pad_space": "F.pad; nn.ConstantPad, nn.ZeroPad, nn.ReflectionPad, nn.ReplicationPad, nn.CircularPad",
        "layers.conv.Conv": "nn.Conv1d/2d/3d",
        "layers.conv.ConvTranspose": "nn.ConvTranspose1d/2d/3d",
        "layers.conv.SeparableConv": "composed: nn.Conv1d/2d/3d twice",
        "layers.conv.StandardisedConv": "composed: torch.var_mean, F.conv1d/2d/3d",
    },
    "Pooling": {
        "ops.max_pool.max_pool": "F.max_pool1d/2d/3d, nn.MaxPool",
        "ops.pool.average_pool": "F.avg_pool1d/2d/3d, nn.AvgPool",
        "ops.pool.lp_pool": "F.lp_pool1d/2d/3d, nn.LPPool",
        "ops.pool.l2_pool": "F.lp_pool1d/2d/3d, p = 2",
        "ops.adaptive_pool.adaptive_average_pool": "F.adaptive_avg_pool1d/2d/3d, nn.AdaptiveAvgPool",
        "ops.adaptive_pool.adaptive_max_pool": "F.adaptive_max_pool1d/2d/3d, nn.AdaptiveMaxPool",
        "ops.pool.global_average_pool": "F.adaptive_avg_pool1d/2d/3d to 1",
        "ops.pool.global_max_pool": "F.adaptive_max_pool1d/2d/3d to 1",
        "ops.pool.global_average_max_pool": "composed: half the sum of the two above",
        "ops.blur_pool.blur_pool": "composed: F.pad, F.conv1d/2d/3d",
        "ops.blur_pool.max_blur_pool": "composed: F.max_pool1d/2d/3d, F.pad, F.conv1d/2d/3d",
    },
    "Activations": {
        "ops.activations.identity": "nn.Identity",
        "ops.activations.sigmoid": "F.sigmoid, nn.Sigmoid",
        "ops.activations.tanh": "F.tanh, nn.Tanh",
        "ops.activations.gelu": "F.gelu, nn.GELU",
        "ops.activations.gelu_tanh": 'F.gelu, nn.GELU, approximate="tanh"',
        "ops.activations.silu": "F.silu, nn.SiLU",
        "ops.activations.mish": "F.mish, nn.Mish",
        "ops.activations.softplus": "F.softplus, nn.Softplus",
        "ops.activations.softsign": "F.softsign, nn.Softsign",
        "ops.activations.log_sigmoid": "F.logsigmoid, nn.LogSigmoid",
        "ops.rectifiers.relu": "F.relu, nn.ReLU",
        "ops.rectifiers.relu6": "F.relu6, nn.ReLU6",
        "ops.rectifiers.leaky_relu": "F.leaky_relu, nn.LeakyReLU",
        "ops.rectifiers.elu": "F.elu, nn.ELU",
        "ops.rectifiers.selu": "F.selu, nn.SELU",
        "ops.rectifiers.celu": "F.celu, nn.CELU",
        "ops.rectifiers.hard_tanh": "F.hardtanh, nn.Hardtanh",
        "ops.rectifiers.hard_sigmoid": "F.hardsigmoid, nn.Hardsigmoid",
        "ops.rectifiers.hard_swish": "F.hardswish, nn.Hardswish",
        "ops.activations.softmax": "F.softmax, nn.Softmax",
        "ops.activations.softmin": "F.softmin, nn.Softmin",
        "ops.activations.log_softmax": "F.log_softmax, nn.LogSoftmax",
        "ops.activations.glu": "F.glu, nn.GLU",
        "ops.rectifiers.prelu": "F.prelu",
        "layers.activation.PReLU": "nn.PReLU",
    },
    "Normalisation, distances, dense layers": {
        "ops.norm.batch_moments": "torch.var_mean",
        "ops.norm.normalise": "F.batch_norm, training=False",
        "ops.norm.group_norm": "F.group_norm",
        "ops.norm.layer_norm": "F.layer_norm",
        "ops.norm.instance_norm": "F.instance_norm",
        "ops.norm.rms_norm": "F.rms_norm",
        "ops.norm.standardise_weights": "composed: torch.var_mean",
        "layers.norm.BatchNorm": "nn.BatchNorm1d/2d/3d",
        "layers.norm.GroupNorm": "nn.GroupNorm",
        "layers.norm.LayerNorm": "nn.LayerNorm",
        "layers.norm.InstanceNorm": "nn.InstanceNorm1d/2d/3d",
        "layers.norm.RMSNorm": "nn.RMSNorm",
        "layers.dense.Dense": "nn.Linear",
        "layers.dense.Head": "nn.Linear",
        "ops.distance.squared_distances": "torch.cdist, squared",
        "ops.distance.euclidean_distances": "torch.cdist",
        "ops.distance.unit_length": "F.normalize",
    },
    "Losses": {
        "losses.regression.mean_squared_error": "F.mse_loss, nn.MSELoss",
        "losses.regression.mean_absolute_error": "F.l1_loss, nn.L1Loss",
        "losses.regression.huber": "F.huber_loss, nn.HuberLoss",
        "losses.regression.smooth_l1": "F.smooth_l1_loss, nn.SmoothL1Loss",
        "losses.regression.poisson_nll": "F.poisson_nll_loss, nn.PoissonNLLLoss",
        "losses.regression.gaussian_nll": "F.gaussian_nll_loss, nn.GaussianNLLLoss",
        "losses.binary.binary_cross_entropy": "F.binary_cross_entropy, nn.BCELoss",
        "losses.binary.binary_cross_entropy_with_logits": "F.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss",
        "losses.binary.soft_margin": "F.soft_margin_loss, nn.SoftMarginLoss",
        "losses.focal.sigmoid_focal": "composed: F.binary_cross_entropy_with_logits (torchvision's formula)",
        "losses.explicit_pairs.hinge_embedding": "F.hinge_embedding_loss, nn.HingeEmbeddingLoss",
        "losses.explicit_pairs.cosine_embedding": "F.cosine_embedding_loss, nn.CosineEmbeddingLoss",
        "losses.explicit_pairs.margin_ranking_pair": "F.margin_ranking_loss, nn.MarginRankingLoss",
        "losses.explicit_triplets.triplet_margin": "F.triplet_margin_loss, nn.TripletMarginLoss",
        "losses.explicit_triplets.triplet_margin_with_distance": (
            "F.triplet_margin_with_distance_loss, nn.TripletMarginWithDistanceLoss"
        ),
        "losses.row_distances.row_distances": "F.pairwise_distance, nn.PairwiseDistance",
        "losses.row_distances.row_cosines": "F.cosine_similarity, nn.CosineSimilarity",
        "losses.classification.negative_log_likelihood": "F.nll_loss, nn.NLLLoss",
        "losses.classification.softmax_cross_entropy": "F.cross_entropy, nn.CrossEntropyLoss",
        "losses.classification.poly1": "composed: F.cross_entropy, torch.softmax",
        "losses.classification.multi_margin": "F.multi_margin_loss, nn.MultiMarginLoss",
        "losses.focal.focal": "composed: F.cross_entropy, torch.exp",
        "losses.multi_label.multi_label_soft_margin": "F.multilabel_soft_margin_loss, nn.MultiLabelSoftMarginLoss",
        "losses.multi_label.multi_label_margin": "F.multilabel_margin_loss, nn.MultiLabelMarginLoss",
        "losses.multi_label.sigmoid_cross_entropy": "composed: F.one_hot, F.binary_cross_entropy_with_logits",
        "losses.divergence.kl_divergence": "F.kl_div, nn.KLDivLoss",
        "losses.divergence.jensen_shannon": "composed: F.kl_div twice",
        "losses.divergence.distillation": "composed: F.kl_div, F.cross_entropy",
        "losses.reduction.reduce": "torch.mean, torch.sum",
    },
    "Counts and initial weights": {
        "ops.arithmetic.output_sizes": "shape of F.conv1d/2d/3d, F.max_pool1d/2d/3d",
        "ops.arithmetic.transposed_output_sizes": "shape of F.conv_transpose1d/2d/3d",
        "ops.arithmetic.num_weights": "numel of nn.Conv1d/2d/3d's weight",
        "ops.arithmetic.num_neurons": "numel of F.conv1d/2d/3d's output",
        "ops.arithmetic.num_macs": "torch.utils.flop_counter, halved",
        "initialisers.glorot_uniform": "bound of init.xavier_uniform_",
        "initialisers.glorot_normal": "deviation of init.xavier_normal_",
        "initialisers.he_uniform": "bound of init.kaiming_uniform_",
        "initialisers.he_normal": "deviation of init.kaiming_normal_",
        "initialisers.he_normal_fan_out": 'deviation of init.kaiming_normal_, mode="fan_out"',
        "initialisers.lecun_uniform": 'bound of init.kaiming_uniform_, nonlinearity="linear"',
        "initialisers.torch_default": "bound of nn.Conv1d/2d/3d's and nn.Linear's weight",
        "initialisers.torch_default_bias": "bound of nn.Conv2d's bias",
        "initialisers.normal": "deviation of init.normal_",
        "initialisers.uniform": "bound of init.uniform_",
        "initialisers.constant": "init.constant_",
        "initialisers.orthogonal": "inner products of init.orthogonal_",
        "initialisers.dirac": "init.dirac_",
        "ops.gain.gain": "init.calculate_gain",
    },
}

_RANDOM = "random: the draws of two generators cannot agree"
_PART = "a step of the functions above"
_NONE = "torch has none"
_MINED = "torch has none that mines pairs or triplets from a batch"

# Our public names, or all in a module or package, without a row -> why.
WITHOUT = {
    "ops.augment": "torch has none without torchvision",
    "ops.kernels": "hand-designed kernels are plain numbers; torch has none",
    "ops.blur_kernels": "the same",
    "ops.edge_kernels": "the same",
    "ops.dropout": _RANDOM,
    "ops.stochastic_pool": _RANDOM,
    "layers.regularise": _RANDOM,
    "ops.arguments": "refuses, computes nothing",
    "initialisers.check_initialiser": "the same",
    "ops.random": _PART,
    "ops.precision": _PART,
    "ops.windows": _PART,
    "ops.max_pool.spread_choice": _PART,
    "ops.max_pool.first_maximum": _PART,
    "ops.padding.per_axis": _PART,
    "ops.padding.explicit_padding": _PART,
    "ops.conv.transposed_padding": _PART,
    "ops.norm.num_values": _PART,
    "ops.activations.named_activation": "looks a name up",
    "initialisers.named_initialiser": "looks a name up",
    "ops.conv.check_transposed": "refuses, computes nothing",
    "ops.norm.nearby_mean": "a shift for batch_moments, which is compared",
    "ops.activations.scaled_tanh": _NONE,
    "ops.arithmetic.num_connections": _NONE,
    "ops.arithmetic.real_taps": _NONE,
    "losses.batch_pairs": _PART,
    "losses.checks": _PART,
    "losses.examples": _PART,
    "losses.labelled": _PART,
    "losses.class_weights": _NONE,
    "losses.focal.focus": _PART,
    "losses.reduction.masked_mean": "`reduce` by another name",
    "losses.binary.hinge": _NONE,
    "losses.binary.squared_hinge": _NONE,
    "losses.regression.log_cosh": _NONE,
    "losses.regression.quantile": _NONE,
    "losses.multi_label.asymmetric": _NONE,
    "losses.explicit_pairs.contrastive_pair": _NONE,
    "losses.contrastive": _MINED,
    "losses.ranking": _MINED,
    "losses.triplet": _MINED,
    "layers.attention.SqueezeExcitation": "torch has none without torchvision",
    "layers.endings": "a network's last step: `unit_length`, and picking one output",
    "initialisers.lecun_normal": "truncated as in flax and Keras; torch's kaiming_normal_ is not",
    "initialisers.truncated_normal": "cut at two deviations; torch's trunc_normal_ cuts at ±2",
    "initialisers.lenet_uniform": _NONE,
    "initialisers.delta_orthogonal": _NONE,
    "initialisers.sparse": "random, and torch's has the zeros among the outputs of each input",
}

# torch's modules of these kinds that stand in no row -> why.
NOT_HERE = {
    "nn.MaxUnpool": "not offered",
    "nn.FractionalMaxPool": "random",
    "nn.Threshold": "not offered",
    "nn.RReLU": "random; not offered",
    "nn.Hardshrink": "not offered",
    "nn.Softshrink": "not offered",
    "nn.Tanhshrink": "not offered",
    "nn.Softmax2d": "`softmax` along the last axis, ours",
    "nn.MultiheadAttention": "not a convolutional network's",
    "nn.LocalResponseNorm": "not offered",
    "nn.CrossMapLRN2d": "torch's older LocalResponseNorm",
    "nn.SyncBatchNorm": "`BatchNorm` with `axis_name`: tests/test_batch_norm.py",
    "nn.Dropout": _RANDOM,
    "nn.AlphaDropout": "not offered",
    "nn.FeatureAlphaDropout": "not offered",
    "nn.NLLLoss2d": "torch's older NLLLoss",
    "nn.LinearCrossEntropyLoss": "a linear layer and `softmax_cross_entropy`, fused to save memory",
    "nn.CTCLoss": "for sequences without alignment",
    "nn.AdaptiveLogSoftmaxWithLoss": "for large vocabularies",
    "nn.Bilinear": "not offered",
}

_KINK = (
    "At the kink of max(0, x) any number from 0 to 1 serves as derivative: ours is ½ (`jnp.maximum`), torch's {}. "
    "Both agree on either side."
)
_IGNORED = (
    "Ours is the mean over examples of the mean over an example's places that count, so that each example weighs the same; "
    "torch's is the mean over all places of the batch. They agree where every example has as many."
)

# A row above the tolerance, as "name" or "name: variant" -> why.
EXPLAINED: dict[str, str] = {
    "ops.pool.lp_pool: negative values, odd p": (
        "torch leaves out the absolute value of |x|^p, and returns NaN where Σ x^p is negative; ours is the norm."
    ),
    "ops.pool.lp_pool: window cut off by ceil_mode": (
        "torch multiplies the mean over a window that the border cuts off by the size of a full one; ours is the norm of what is there."
    ),
    "ops.rectifiers.hard_sigmoid": "torch's derivative holds 1/6 rounded to float32, also in float64.",
    "ops.rectifiers.hard_sigmoid: at 0, kinks and up to ±1e4": "As above.",
    "ops.norm.rms_norm: default ε": (
        "torch's default is the step at 1 of the inputs' type, 2.2e-16 in float64; ours is float32's, 1.2e-7, in every type."
    ),
    "layers.dense.Head": "The head returns float32 whatever it is given, here float64.",
    "ops.distance.euclidean_distances: points that coincide": (
        "Ours is the root of ‖x‖² − 2·x·y + ‖y‖², one product of matrices: a rounding of 1e-7 in the square is 3e-4 in the root. "
        "torch, asked for it here, subtracts first; by default it does as ours does from 26 points on."
    ),
    "losses.binary.binary_cross_entropy: probabilities of 0 and 1": (
        "torch's derivative holds its bound of 1e-12 rounded to float32, also in float64."
    ),
    "losses.binary.binary_cross_entropy: probabilities of 0 and 1, gradient by targets": (
        "torch bounds the logarithms at −100 in the value, but not in the derivative by the targets, which is infinite; ours is finite."
    ),
    "losses.binary.soft_margin: at 0 and ±1e4": "torch computes log(1 + e^x), which overflows to ∞ with gradient NaN; ours is −log σ.",
    "losses.explicit_pairs.hinge_embedding: at kinks and ties": _KINK.format("1"),
    "losses.explicit_pairs.margin_ranking_pair: at kinks and ties": _KINK.format("1"),
    "losses.explicit_pairs.cosine_embedding: a zero row": (
        "Both add 1e-12 to the squared lengths, torch rounded to float32; the derivative at 0, 10⁶ times the other row, shows it."
    ),
    "losses.explicit_pairs.cosine_embedding: a zero row at the kink": _KINK.format("1"),
    "losses.classification.negative_log_likelihood: mean of dense labels, some ignored": _IGNORED,
    "losses.classification.softmax_cross_entropy: mean of dense labels, some ignored": _IGNORED,
    "losses.classification.multi_margin: at kinks and ties": _KINK.format("0"),
    "initialisers.dirac: even window": "Ours sets the first of the two middle taps, the identity under SAME padding; torch the second.",
}
