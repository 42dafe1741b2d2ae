"""Today's LeNet-5 on MNIST. Needs the data (see README, "Data").

    python launch.py --experiment=mnist_lenet5

Result: unmeasured.
"""

from cnn_jax.experiment import About, Experiment, Spec

EXPERIMENT = Experiment(
    name="mnist_lenet5",
    about=About(shows="the modern LeNet-5 on MNIST", num_params=61_706, needs_network=True),
    model=Spec("lenet5_modern"),
    dataset=Spec("mnist"),
    augment=(Spec("random_shift", pixels=2),),
    metrics=(Spec("accuracy"), Spec("confusion")),
    optimizer=Spec("sgd", learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=Spec("warmup_cosine", warmup_steps=200),
    batch_size=128,
    eval_batch_size=1000,
    num_steps=5000,
    log_every=100,
    eval_every=1000,
)
