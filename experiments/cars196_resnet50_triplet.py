"""Retrieval of car models that were never trained on: ResNet-50 by triplets on Cars-196.

    python launch.py --experiment=cars196_resnet50_triplet

Result: unmeasured: no copy of the data was at hand. It is made of the usual parts of the field: random resized crops and flips, batches
of a few classes with several images each, embeddings of 128. Without the pretrained weights that the field starts from it will stay
below its figures.
"""

from cnn_jax.experiment import About, Experiment, Spec

EXPERIMENT = Experiment(
    name="cars196_resnet50_triplet",
    about=About(shows="retrieval of unseen car models, by triplets", num_params=23_770_304, needs_network=True),
    model=Spec("resnet50"),
    dataset=Spec("cars196"),
    sampler=Spec("classes_by_images", num_images=4),
    augment=(Spec("random_resized_crop", size=224), Spec("random_flip")),
    loss=Spec("triplet_semi_hard", margin=0.2),
    metrics=(),
    retrieval=(Spec("recall_at_k", k=1), Spec("map_at_r")),
    embedding_size=128,
    optimizer=Spec("sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    schedule=Spec("warmup_cosine", warmup_steps=500),
    batch_size=112,
    eval_batch_size=128,
    num_steps=10000,
    log_every=50,
    eval_every=1000,
    best_by="recall_at_1",
    workers=8,
)
