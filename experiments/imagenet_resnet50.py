"""ResNet-50 on ImageNet, 90 epochs at batch 1024. Needs the data (see README, "Data") and accelerators.

    python launch.py --experiment=imagenet_resnet50

The recipe of Goyal et al. 2017 ("Accurate, large minibatch SGD"), with label smoothing.
Result: unmeasured.
"""

from cnn_jax.experiment import About, Experiment, Spec

EXPERIMENT = Experiment(
    name="imagenet_resnet50",
    about=About(shows="the field's reference, at scale", num_params=25_557_032, needs_network=True),
    model=Spec("resnet50", zero_init_residual=True),
    dataset=Spec("imagenet2012", image_size=224),
    augment=(Spec("random_resized_crop", size=224), Spec("random_flip")),
    loss=Spec("softmax_cross_entropy", smoothing=0.1),
    metrics=(Spec("accuracy"), Spec("top_k", k=5)),
    optimizer=Spec("sgd", learning_rate=0.4, momentum=0.9, nesterov=True, weight_decay=1e-4),
    schedule=Spec("warmup_cosine", warmup_steps=6255),
    batch_size=1024,
    eval_batch_size=1000,
    num_steps=112_590,  # 90 epochs
    log_every=100,
    eval_every=6255,
    save_every=1251,
    workers=16,
)
