"""Retrieval of products that were never trained on: ResNet-50 on Stanford Online Products, hard negatives from the product's own group.

    python launch.py --experiment=stanford_online_products_resnet50_supcon

Result: unmeasured: no copy of the data was at hand. It is made of the usual parts of the field: random resized crops and flips, batches
of a few classes with several images each, embeddings of 128. Without the pretrained weights that the field starts from it will stay
below its figures.
"""

from cnn_jax.experiment import About, Experiment, Spec

EXPERIMENT = Experiment(
    name="stanford_online_products_resnet50_supcon",
    about=About(shows="retrieval among 11,316 unseen products", num_params=23_770_304, needs_network=True),
    model=Spec("resnet50"),
    dataset=Spec("stanford_online_products"),
    sampler=Spec("groups_by_classes", num_groups=2, num_images=4),
    augment=(Spec("random_resized_crop", size=224), Spec("random_flip")),
    loss=Spec("supervised_contrastive", temperature=0.1),
    metrics=(),
    retrieval=(Spec("recall_at_k", k=1), Spec("map_at_r")),
    embedding_size=128,
    optimizer=Spec("sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    schedule=Spec("warmup_cosine", warmup_steps=500),
    batch_size=256,
    eval_batch_size=128,
    num_steps=50000,
    log_every=50,
    eval_every=1000,
    best_by="recall_at_1",
    workers=8,
)
