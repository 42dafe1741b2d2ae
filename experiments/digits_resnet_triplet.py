"""The digits net as an embedding: images of one digit are drawn together, others pushed apart (batch-hard triplets).

    python launch.py --experiment=digits_resnet_triplet
"""

from cnn_jax.experiment import About, Expected, Experiment, Spec

EXPERIMENT = Experiment(
    name="digits_resnet_triplet",
    about=About(
        shows="metric learning: batch-hard triplets, recall@1 on held-out images",
        num_params=310_592,
        expected=Expected(metric="recall_at_1", low=0.98),
    ),
    model=Spec("resnet8", width=32),
    dataset=Spec("digits"),
    augment=(Spec("random_shift", pixels=1),),
    loss=Spec("triplet_batch_hard", margin=0.2),
    metrics=(),
    retrieval=(Spec("recall_at_k", k=1),),
    embedding_size=64,
    optimizer=Spec("adamw", learning_rate=1e-3, weight_decay=0.05),
    schedule=Spec("warmup_cosine", warmup_steps=50),
    batch_size=128,
    eval_batch_size=360,
    num_steps=500,
    log_every=50,
    eval_every=100,
    best_by="recall_at_1",
)
