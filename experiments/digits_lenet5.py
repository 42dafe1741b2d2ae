"""LeNet-5 as published in 1998 on handwritten digits, enlarged to its 32×32 field.

    python launch.py --experiment=digits_lenet5

Result: test accuracy 0.9856 ± 0.0023 (mean and standard deviation over 5 seeds, 0 to 4; 0.9833 to 0.9889; 360 test images),
17 s for the whole command, on two cores of an Intel Xeon, jax 0.10.2, Python 3.11,
2026-11-21. `make slow` repeats it.
"""

from cnn_jax.experiment import About, Expected, Experiment, Spec

EXPERIMENT = Experiment(
    name="digits_lenet5",
    about=About(
        shows="the network of 1998, as published",
        num_params=60_000,
        time="17 s",
        expected=Expected(metric="accuracy", low=0.97),
    ),
    model=Spec("lenet5"),
    dataset=Spec("digits"),
    augment=(Spec("random_shift", pixels=1),),
    metrics=(Spec("accuracy"), Spec("confusion")),
    optimizer=Spec("sgd", learning_rate=0.02, momentum=0.9, nesterov=True),
    schedule=Spec("warmup_cosine", warmup_steps=50),
    batch_size=64,
    eval_batch_size=360,
    num_steps=1000,
    log_every=100,
    eval_every=250,
    steps_per_dispatch=25,
)
