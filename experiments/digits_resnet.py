"""A small residual net on real handwritten digits: the default, and the quickest way to a true number.

    python launch.py --experiment=digits_resnet

Result: test accuracy 0.9950 ± 0.0036 (mean and standard deviation over 5 seeds, 0 to 4; 0.9889 to 0.9972; 360 test images),
26 s for the whole command, on two cores of an Intel Xeon, jax 0.10.2, Python 3.11,
2026-11-21. `make slow` repeats it.
"""

from cnn_jax.experiment import About, Expected, Experiment, Spec

EXPERIMENT = Experiment(
    name="digits_resnet",
    about=About(
        shows="a residual net on bundled handwritten digits",
        num_params=308_074,
        time="25 s",
        expected=Expected(metric="accuracy", low=0.985),
    ),
    model=Spec("resnet8", width=32),
    dataset=Spec("digits"),
    augment=(Spec("random_shift", pixels=1),),
    metrics=(Spec("accuracy"), Spec("confusion")),
    optimizer=Spec("sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=Spec("warmup_cosine", warmup_steps=50),
    batch_size=64,
    eval_batch_size=360,
    num_steps=600,
    log_every=50,
    eval_every=200,
    steps_per_dispatch=25,
)
