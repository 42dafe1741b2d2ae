"""The digits net by supervised contrast: each image tells those of its digit from the rest of the batch by a softmax.

    python launch.py --experiment=digits_resnet_supcon

Result: unmeasured.
"""

from cnn_jax.experiment import About, Experiment, Spec

EXPERIMENT = Experiment(
    name="digits_resnet_supcon",
    about=About(shows="supervised contrastive learning: recall@1 and MAP@R on held-out images", num_params=315_040),
    model=Spec("resnet8", width=32),
    dataset=Spec("digits"),
    sampler=Spec("classes_by_images", num_images=12),
    augment=(Spec("random_shift", pixels=1),),
    loss=Spec("supervised_contrastive", temperature=0.1),
    metrics=(),
    retrieval=(Spec("recall_at_k", k=1), Spec("map_at_r")),
    embedding_size=64,
    optimizer=Spec("sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=Spec("warmup_cosine", warmup_steps=50),
    batch_size=120,
    eval_batch_size=360,
    num_steps=300,
    log_every=50,
    eval_every=100,
    best_by="map_at_r",
)
