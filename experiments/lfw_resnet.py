"""Face or no face: a small residual net on 160 bundled pictures of 25×25 pixels.

    python launch.py --experiment=lfw_resnet

Result: test accuracy 1.0000 ± 0.0000 (mean and standard deviation over 5 seeds, 0 to 4; 1.0000 to 1.0000; 40 test images),
12 s for the whole command, on two cores of an Intel Xeon, jax 0.10.2, Python 3.11,
2026-11-21. `make slow` repeats it.
"""

from cnn_jax.experiment import About, Expected, Experiment, Spec

EXPERIMENT = Experiment(
    name="lfw_resnet",
    about=About(
        shows="learning from 160 pictures: faces or not",
        num_params=77_234,
        time="12 s",
        expected=Expected(metric="accuracy", low=0.95),
    ),
    model=Spec("resnet8"),
    dataset=Spec("lfw_subset"),
    augment=(Spec("random_flip"), Spec("random_shift", pixels=2)),
    metrics=(Spec("accuracy"), Spec("confusion")),
    optimizer=Spec("sgd", learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=Spec("warmup_cosine", warmup_steps=20),
    batch_size=32,
    eval_batch_size=40,
    num_steps=300,
    log_every=50,
    eval_every=100,
)
