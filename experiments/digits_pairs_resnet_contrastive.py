"""A Siamese net on explicit pairs of digits: are the two the same digit? The same weights read both.

    python launch.py --experiment=digits_pairs_resnet_contrastive

Result: unmeasured.
"""

from cnn_jax.experiment import About, Experiment, Spec

EXPERIMENT = Experiment(
    name="digits_pairs_resnet_contrastive",
    about=About(shows="a Siamese net verifies pairs of digits", num_params=315_040),
    model=Spec("resnet8", width=32),
    dataset=Spec("digits_pairs"),
    augment=(Spec("random_shift", pixels=1),),
    loss=Spec("siamese_contrastive", margin=1.0),
    metrics=(),
    retrieval=(Spec("roc_auc"), Spec("equal_error_rate"), Spec("verification_accuracy")),
    embedding_size=64,
    optimizer=Spec("sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=Spec("warmup_cosine", warmup_steps=50),
    batch_size=120,
    eval_batch_size=480,
    num_steps=500,
    log_every=50,
    eval_every=100,
    best_by="verification_accuracy",
)
