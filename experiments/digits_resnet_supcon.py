"""The digits net by supervised contrast: each image tells those of its digit from the rest of the batch by a softmax.

    python launch.py --experiment=digits_resnet_supcon

Result: test recall@1 0.9972 ± 0.0028 (0.9944 to 1.0000), MAP@R 0.9941 ± 0.0030 (0.9913 to 0.9988; mean and standard deviation over 5
seeds, 0 to 4; 360 test images; the pixels: recall@1 0.967, MAP@R 0.517), 21 s for the whole command, on two cores of an AMD EPYC,
jax 0.10.2, Python 3.11, 2026-11-21. `make slow` repeats it.
"""

from cnn_jax.experiment import About, Expected, Experiment, Spec

EXPERIMENT = Experiment(
    name="digits_resnet_supcon",
    about=About(
        shows="supervised contrastive learning: recall@1 and MAP@R on held-out images",
        num_params=315_040,
        time="21 s",
        expected=Expected(metric="map_at_r", low=0.95),
    ),
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
