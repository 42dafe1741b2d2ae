"""ResNet-18 with the small stem on CIFAR-10. Needs the data (see README, "Data").

    python launch.py --experiment=cifar10_resnet18

Result: unmeasured.
"""

from cnn_jax.experiment import About, Experiment, Spec

EXPERIMENT = Experiment(
    name="cifar10_resnet18",
    about=About(shows="the usual baseline on small photographs", num_params=11_173_962, needs_network=True),
    model=Spec("resnet18", stem="small"),
    dataset=Spec("cifar10"),
    augment=(Spec("random_flip"), Spec("random_shift", pixels=4)),
    loss=Spec("softmax_cross_entropy", smoothing=0.1),
    metrics=(Spec("accuracy"), Spec("confusion")),
    optimizer=Spec("sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=Spec("warmup_cosine", warmup_steps=1000),
    batch_size=128,
    eval_batch_size=500,
    num_steps=78_000,  # 200 epochs
    log_every=100,
    eval_every=1950,
)
