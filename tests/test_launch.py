"""launch.py as a user types it: what it prints, and the mistakes that must not show a traceback or touch anything."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import cnn_jax.evaluate
from cnn_jax.experiment import Spec, to_json
from cnn_jax.override import override
from cnn_jax.train import train
from experiments import EXPERIMENTS
from tests.runs import CLASSIFIER, REPOSITORY, launch, launch_here

pytestmark = pytest.mark.usefixtures("quick_commands")


def test_without_arguments_it_lists_the_experiments():
    result = launch()
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for word in ("digits_resnet", "imagenet_resnet50", "308,074", "once", "unmeasured"):
        assert word in result.stdout


def test_listing_does_not_import_jax():
    code = "import sys, launch; launch.list_experiments(); assert 'jax' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


def test_a_tiny_run_as_a_user_types_it(tmp_path):
    result = launch("--experiment=digits_resnet", "--tiny", f"--workdir={tmp_path}/run", "--num_devices=4", "--parallel=pmap")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for line in ("4 × cpu (pmap, float32)", "compiling the training step", "evaluated 21 of 21", "done: 4 updates"):
        assert line in result.stdout
    result = launch("--mode=evaluate", f"--workdir={tmp_path}/run")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "precision" in result.stdout


def test_flagfile_and_set(tmp_path, capsys):
    (tmp_path / "flags").write_text("--experiment=digits_resnet\n--set=model=resnet18\n--set=model.stem=small\n--mode=describe\n")
    assert launch_here(f"--flagfile={tmp_path / 'flags'}") == 0
    out = capsys.readouterr().out
    assert "11,1" in out
    assert "<- resnet8" in out


def test_describe_shows_the_difference_and_the_command(capsys):
    assert launch_here("--experiment=digits_resnet", "--mode=describe", "--set", "optimizer.learning_rate=0.3", "--seed=5") == 0
    out = capsys.readouterr().out
    assert "python launch.py --experiment=digits_resnet --set optimizer.learning_rate=0.3 --seed=5" in out
    assert "<- 0.1" in out
    for word in ("stem_conv", "FLOPs", "memory of the state", "26.7 epochs", "0.985"):
        assert word in out


def test_inspect_takes_a_trained_run_apart(run, tmp_path, capsys):
    assert launch_here("--mode=inspect", f"--workdir={run}", f"--output={tmp_path}") == 0
    out = capsys.readouterr().out
    assert "trained, 95 % of its squared gradient" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inspection.json", "layers.csv", "receptive_field.png"]


def test_inspect_takes_a_model_by_name_with_options(tmp_path, capsys):
    arguments = ("--model=resnet20", "--input=24x24x1", "--set", "model.width=8", "--layer=stage1_block2", f"--output={tmp_path}")
    assert launch_here("--mode=inspect", *arguments) == 0
    out = capsys.readouterr().out
    assert re.search(r"stem_conv +Conv +3×3 pad 1 +24×24×8", out)
    assert "stage1_block2 may see 11×11 input positions" in out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, for mistakes that need one."""
    workdir = tmp_path_factory.mktemp("run") / "run"
    train(dataclasses.replace(CLASSIFIER, name="digits_resnet", num_steps=2), workdir, num_devices=1)
    return workdir


def snapshot(folder):
    return {p.relative_to(folder): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else None) for p in folder.rglob("*")}


T, INSPECT, KERNELS, BARE = "--experiment=digits_resnet", "--mode=inspect", "--mode=kernels", "--model=resnet8"
SET_TRIPLET = ["--set", "loss=triplet_batch_all", "--set", "metrics=", "--set", "best_by=loss"]
MISTAKES = {
    # what is typed: what the message must say
    "unknown experiment": (["--experiment=digits_resent"], "Did you mean digits_resnet"),
    "unknown mode": ([T, "--mode=trian"], "Did you mean train"),
    "unknown flag": (["--experimant=digits_resnet"], "Did you mean: experiment"),
    "stray argument": (["digits_resnet"], "Stray argument 'digits_resnet'"),
    "unknown parallel mode": ([T, "--parallel=pmpa"], "Did you mean pmap"),
    "flag of the wrong type": ([T, "--num_devices=two"], "num_devices"),
    "set without equals": ([T, "--set", "batch_size"], "not of the form key=value"),
    "unknown setting": ([T, "--set", "bach_size=3"], "Did you mean batch_size"),
    "setting without its first part": ([T, "--set", "learning_rate=3"], "optimizer.learning_rate=3"),
    "unknown option": ([T, "--set", "optimizer.learningrate=3"], "Did you mean learning_rate"),
    "option of the wrong type": ([T, "--set", "optimizer.nesterov=maybe"], "true or false"),
    "field of the wrong type": ([T, "--set", "num_steps=1e3"], "not of type int"),
    "unknown model": ([T, "--set", "model=resnet81"], "Did you mean resnet8 or resnet18"),
    "unknown data set": ([T, "--set", "dataset=minst"], "Did you mean mnist"),
    "unknown loss": ([T, "--set", "loss=triplet"], "Did you mean triplet_"),
    "unknown metric": ([T, "--set", "metrics=acuracy"], "Did you mean accuracy"),
    "option that is one of few": ([T, "--set", "model.stem=large"], "imagenet or small"),
    "part of a plain field": ([T, "--set", "batch_size.x=3"], "has no parts"),
    "entry that is not there": ([T, "--set", "augment.7.pixels=3"], "augment.0 is random_shift"),
    "batch of nothing": ([T, "--set", "batch_size=0"], "must be at least 1"),
    "precision that does not exist": ([T, "--set", "precision=float8"], "float32 or bfloat16"),
    "micro-batches that do not fit": ([T, "--set", "accumulate_steps=7"], "divisor of the batch size"),
    "metric that does not fit the loss": ([T, "--set", "loss=triplet_batch_hard"], "retrieval=recall_at_k"),
    "best by something unmeasured": ([T, "--set", "best_by=recall"], "best_by"),
    "impossible average": ([T, "--set", "ema_decay=1.5"], "between 0 and 1"),
    "more devices than there are": ([T, "--num_devices=1000"], "at most|has 4"),
    "no devices": ([T, "--num_devices=0"], "--num_devices=0 must be positive, or left out. Devices to use"),
    "batch that devices cannot share": ([T, "--set", "batch_size=9", "--num_devices=2"], "multiple of 2"),
    "crop that does not fit": ([T, "--set", "augment=random_resized_crop", "--set", "augment.0.size=16"], "Make them agree"),
    "option that is missing": ([T, "--set", "augment=random_resized_crop"], "needs size"),
    "k beyond the classes": ([T, "--set", "metrics=top_k", "--set", "metrics.0.k=11", "--set", "best_by=top_11"], "from 1 to 10"),
    "model that cannot be built": ([T, "--set", "model.stage_sizes=1,0"], "The model resnet8"),
    "model without width": ([T, "--set", "model.width=0"], "must be at least 1"),
    "data that are not there": (["--experiment=mnist_lenet5", "--set", "dataset.data_dir={tmp}/none"], "needs TensorFlow"),
    "data folder that cannot be written": ([T, "--set", "dataset.data_dir={tmp}/file/x"], "data_dir"),
    "workdir that cannot be made": ([T, "--tiny", "--workdir={tmp}/file/x"], "workdir"),
    "workdir that cannot be written": ([T, "--tiny", "--workdir=/proc/nothing"], "workdir /proc/nothing cannot be"),
    "step outside evaluation": ([T, "--step=3"], "--mode=evaluate"),
    "profile of a description": ([T, "--mode=describe", "--profile"], "--profile belongs to --mode=train or --mode=evaluate"),
    "profile of a kernel sheet": ([KERNELS, "--profile"], "--profile belongs to --mode=train or --mode=evaluate"),
    "evaluation of nothing": (["--mode=evaluate"], "needs --workdir"),
    "evaluation of a missing folder": (["--mode=evaluate", "--workdir={tmp}/nowhere"], "There is no folder"),
    "evaluation of a foreign folder": (["--mode=evaluate", "--workdir={tmp}/foreign"], "not the folder of a run"),
    "evaluation of a missing step": (["--mode=evaluate", "--workdir={run}", "--step=77"], "There are: 2"),
    "evaluation of another experiment": (["--mode=evaluate", "--workdir={run}", "--experiment=lfw_resnet"], "Leave --experiment out"),
    "evaluation with another model": (["--mode=evaluate", "--workdir={run}", "--set", "model.width=4"], "of another model"),
    "evaluation of a damaged experiment": (["--mode=evaluate", "--workdir={tmp}/damaged"], "not valid JSON"),
    "evaluation of a future experiment": (["--mode=evaluate", "--workdir={tmp}/future"], "Unknown field 'quantum'"),
    "evaluation of unreadable checkpoints": (["--mode=evaluate", "--workdir={tmp}/unreadable"], "cannot be used: it has no manifest.json"),
    "training over another run": ([T, "--workdir={run}"], "made with other settings"),
    "training over lost settings": ([T, "--workdir={tmp}/lost"], "no experiment.json"),
    "number that is none": ([T, "--set", "optimizer.learning_rate=nan"], "not of type number"),
    "learning rate below zero": ([T, "--set", "optimizer.learning_rate=-1"], "at least 0"),
    "smoothing of everything": ([T, "--set", "loss.smoothing=1.5"], "less than 1"),
    "seed too large": ([T, "--seed=9223372036854775808"], "4294967295"),
    "no test images": ([T, "--set", "dataset=generated", "--set", "dataset.num_test=0"], "at least 1"),
    "workdir without experiment": (["--workdir={tmp}/new"], "needs --experiment"),
    "evaluation of an edited experiment": (["--mode=evaluate", "--workdir={tmp}/edited"], "does not describe"),
    "evaluation of a damaged manifest": (["--mode=evaluate", "--workdir={tmp}/half"], "cannot be used: manifest.json is not what was"),
    "minutes that are none": ([T, "--max_minutes=0"], "--max_minutes=0.0 must be positive"),
    "minutes of a list": ([KERNELS, "--max_minutes=1"], "--max_minutes belongs to --mode=train"),
    "autopsy of nothing": (["--mode=autopsy"], "needs --workdir"),
    "autopsy of a sound run": (["--mode=autopsy", "--workdir={run}"], "holds no failed update"),
    "no best checkpoint to keep": ([T, "--set", "keep_best=0"], "keep_best=0 must be at least 1"),
    "data in another format": (["--experiment=mnist_lenet5", "--set", "dataset.data_dir={tmp}/tfrecord"], "another file format"),
    "flagfile that is not there": (["--flagfile={tmp}/none"], "none"),
    "mixing without classes": ([T, *SET_TRIPLET, "--set", "mix=mixup"], "Add --set mix="),
    "unknown mixture": ([T, "--set", "mix=mixip"], "Did you mean mixup"),
    "model to train by itself": ([T, "--model=resnet18"], "belongs to --mode=inspect"),
    "unknown model to inspect": ([INSPECT, "--model=resnet5O"], "Did you mean .*resnet50"),
    "two networks to inspect": ([INSPECT, "--model=resnet18", T], "Leave one out"),
    "input that is no shape": ([INSPECT, "--model=resnet18", "--input=224,224"], "height x width x channels"),
    "input without pixels": ([INSPECT, "--model=resnet18", "--input=0x224x3"], "each from 1 to 8192"),
    "input too small": ([INSPECT, "--model=inception_v3", "--input=32x32x3"], "75"),
    "option of an inspected model": ([INSPECT, "--model=resnet18", "--set", "model.stem=big"], "imagenet"),
    "layer that is not there": ([INSPECT, "--model=resnet8", "--input=16x16x1", "--layer=stage1"], "stage1_block1"),
    "inspection of nothing": ([INSPECT, "--workdir={tmp}/nowhere"], "There is no folder"),
    "inspection into a file": ([INSPECT, "--model=resnet8", "--input=16x16x1", "--output={tmp}/file"], "{tmp}/file cannot be written"),
    "input without a model": ([INSPECT, T, "--input=32x32x3"], "needs --model"),
    "seed of a bare model": ([INSPECT, "--model=resnet18", "--seed=3"], "means nothing for a bare --model"),
    "step of no run": ([INSPECT, T, "--step=3"], "--step=3 needs --workdir=FOLDER"),
    "another network for a bare model": ([INSPECT, BARE, "--set", "model=lenet5"], "contradicts --model=resnet8.*--set model.option=value"),
    "data for a bare model": ([INSPECT, BARE, "--set", "dataset=digits"], "--set dataset=digits contradicts --model.*--input=224x224x3"),
    "shape for a bare model": ([INSPECT, BARE, "--set", "dataset.shape=3,3,1"], "contradicts --model.*--input=224x224x3"),
    "empty workdir": ([T, "--tiny", "--workdir="], "--workdir= is empty. .*leave it out. Folder of the run; default runs/<experiment>"),
    "empty workdir to evaluate": (["--mode=evaluate", "--workdir= "], "--workdir= is empty"),
    "empty experiment": (["--experiment="], "Unknown experiment ''. Known: digits_resnet"),
    "empty setting": ([T, "--set="], "--set '' is not of the form key=value. Write --set batch_size=64"),
    "empty mode": (["--mode="], "Unknown --mode ''. Known: train, evaluate"),
    "empty parallel mode": ([T, "--parallel="], "Unknown --parallel ''. Known: jit, pmap"),
    "empty model": ([INSPECT, "--model="], "Unknown --model ''. Known: lenet5"),
    "empty input": ([INSPECT, BARE, "--input="], "--input= is empty. .*default 224x224x3"),
    "layer that is a function": ([INSPECT, "--model=lenet5_modern", "--input=28x28x1", "--layer=max_pool_1"], "Choose one of conv1, conv2"),
    "empty layer": ([INSPECT, BARE, "--layer="], "--layer= is empty. .*default the last"),
    "empty output": ([KERNELS, "--output="], "--output= is empty. .*Default in runs/"),
    "empty image": ([KERNELS, "--image="], "--image= is empty. .*picture by name, or a file"),
    "empty border": ([KERNELS, "--border="], "Unknown border ''. Known: zeros, reflect"),
    "no devices to describe": ([T, "--mode=describe", "--num_devices=0"], "--num_devices=0 must be positive, or left out. Devices to use"),
    "experiment of a kernel sheet": ([KERNELS, T], "--experiment belongs to --mode=train"),
    "unknown picture": ([KERNELS, "--image=chelsae"], "chelsea"),
    "picture that is none": ([KERNELS, "--image={tmp}/file"], "file"),
    "unknown border": ([KERNELS, "--border=mirror"], "reflect"),
    "sheet that cannot be written": ([KERNELS, "--output={tmp}/file/x.png"], "cannot be written"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory, run):
    tmp = tmp_path_factory.mktemp("mistakes")
    (tmp / "file").write_text("not a folder")
    for name in ("foreign", "damaged", "future", "unreadable", "lost", "edited"):
        (tmp / name).mkdir()
    (tmp / "foreign" / "holiday.txt").write_text("sun")
    (tmp / "damaged" / "experiment.json").write_text((run / "experiment.json").read_text()[:100])
    fields = json.loads((run / "experiment.json").read_text())
    (tmp / "future" / "experiment.json").write_text(json.dumps(fields | {"quantum": True}))
    (tmp / "unreadable" / "experiment.json").write_text(to_json(dataclasses.replace(CLASSIFIER, num_steps=2)))
    (tmp / "unreadable" / "checkpoints" / "2" / "state").mkdir(parents=True)
    (tmp / "unreadable" / "checkpoints" / "2" / "state" / "_METADATA").write_text("{")
    (tmp / "lost" / "checkpoints").mkdir()
    (tmp / "edited" / "experiment.json").write_text(json.dumps(fields | {"model": "resnet8"}))
    shutil.copytree(run, tmp / "half")
    os.truncate(tmp / "half" / "checkpoints" / "2" / "manifest.json", 5)
    mnist = tmp / "tfrecord" / "mnist" / "3.0.1"
    mnist.mkdir(parents=True)
    info = {"fileFormat": "tfrecord", "name": "mnist", "version": "3.0.1"}
    (mnist / "dataset_info.json").write_text(json.dumps(info))
    (mnist / "features.json").write_text("{}")
    return {"tmp": str(tmp), "run": str(run)}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_gets_a_message_and_changes_nothing(mistake, places, tmp_path, run, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the default workdir would be
    arguments, expected = MISTAKES[mistake]
    arguments = [a.format(**places) for a in arguments]
    trains = not any(a.startswith("--workdir") or a in (INSPECT, KERNELS) for a in arguments)
    if trains and "needs --workdir" not in expected:
        arguments.append(f"--workdir={tmp_path / 'new'}")
    before = snapshot(Path(places["tmp"])) | snapshot(run)
    assert launch_here(*arguments) in (1, 2)
    captured = capsys.readouterr()
    assert re.search(expected.format(**places), captured.err), captured.err
    assert "Traceback" not in captured.err + captured.out
    assert len(captured.err) < 1500
    assert snapshot(Path(places["tmp"])) | snapshot(run) == before
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("mistake", ["unknown experiment", "unknown flag", "unknown option", "data that are not there"])
def test_mistakes_typed_into_a_shell(mistake, places):
    arguments, expected = MISTAKES[mistake]
    result = launch(*(a.format(**places) for a in arguments))
    assert result.returncode in (1, 2)
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


def test_a_new_name_starts_from_its_own_defaults(capsys):
    changed = override(EXPERIMENTS["digits_resnet"], "optimizer=adamw")
    assert changed.optimizer == Spec("adamw")
    assert override(changed, "optimizer=adamw") == changed
    assert override(EXPERIMENTS["digits_resnet"], "metrics=top_k,accuracy").metrics == (Spec("top_k"), Spec("accuracy"))
    assert launch_here(T, "--mode=describe", "--set", "optimizer=adamw") == 0
    assert re.search(r"optimizer.momentum +\(gone\) +<- 0.9", capsys.readouterr().out)


def test_folders_without_permission_are_named(run, capsys, monkeypatch):
    """As root every folder may be read: the refusal is put in by hand, where the system would give it."""

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    for target, name in ((cnn_jax.workdir, "read_short"), (Path, "mkdir")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, refuse)
            arguments = ["--mode=evaluate"] if name == "read_short" else [T, "--tiny"]
            where = run if name == "read_short" else run.parent / "other"
            assert launch_here(*arguments, f"--workdir={where}") == 1
        assert "ermission denied" in capsys.readouterr().err


def test_memory_that_runs_out_gets_advice(tmp_path, capsys, monkeypatch):
    def exhausted(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes")

    monkeypatch.setattr(cnn_jax.evaluate.Evaluator, "compile", exhausted)
    assert launch_here(T, "--tiny", f"--workdir={tmp_path / 'new'}") == 1
    assert "Lower batch_size" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
