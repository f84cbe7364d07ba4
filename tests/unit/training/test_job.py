"""The whole job on a small prepared dataset, with a real network and real methods."""

import csv
import hashlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from model.common.files import FileError
from model.common.fingerprints import PROJECT, import_closure
from model.common.json_files import write_checked
from model.common.provenance import checksum
from model.data.prepared.dataset import Category, ImageRecord, PreparedDataset, write_dataset, write_records
from model.networks.registry import build as build_network
from model.training import loaders
from model.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, load_data, save_checkpoint
from model.training.inputs import InputError, read_step_images
from model.training.job import JobError, JobFiles, build_method, build_networks, run_job, step_iterations, step_loader
from model.training.spec import RecipeSpec, parse_spec

CPU = torch.device("cpu")
SCRIPT = PROJECT / "workflow_scripts" / "train_step.py"
COLOURS = {5: (220, 40, 40), 2: (40, 200, 60), 9: (50, 60, 230), 7: (230, 220, 40)}
RECIPE = {
    "family": "per-pixel",
    "network": {"name": "deeplabv3", "backbone": "tiny", "head": "mib", "channels": 16, "rates": [1, 2, 3]},
    "optimiser": {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
    "schedule": {"name": "poly"},
    "iterations": 4,
    "epochs": None,
    "batch_size": 4,
    "transform": {"name": "random-resized-crop", "size": 32},
    "threads": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Twelve images of coloured rectangles; ids of the classes are out of order on purpose."""
    folder = tmp_path_factory.mktemp("prepared")
    generator = np.random.default_rng(0)
    records = []
    (folder / "images").mkdir()
    (folder / "semantic" / "train").mkdir(parents=True)
    for k in range(12):
        image = generator.integers(0, 60, (40, 48, 3), dtype=np.uint8)
        labels = np.full((40, 48), 255, np.uint8)
        for place, category in enumerate((list(COLOURS) * 2)[k % 4 : k % 4 + 2]):
            window = np.s_[4 + 18 * place : 20 + 18 * place, 6:42]
            image[window] = np.clip(np.array(COLOURS[category]) + generator.integers(-20, 20, (16, 36, 3)), 0, 255)
            labels[window] = category
        file = folder / "images" / f"{k}.png"
        cv2.imwrite(str(file), image[..., ::-1])
        cv2.imwrite(str(folder / "semantic" / "train" / f"{k}.png"), labels)
        records.append(ImageRecord(str(k), file, 40, 48))
    write_records(folder, "train", records)
    categories = [Category(i, f"class{i}", False, colour) for i, colour in COLOURS.items()]
    options = {"background_id": 255, "void_id": None, "tasks": ["semantic"], "splits": ["train"]}
    write_dataset(folder, name="patches", categories=categories, **options)
    return folder


def text_of(step=0, method="finetuning", *, setting="overlapped", seed=0, hyper_parameters=None, **recipe):
    past, current = ([], [5, 2]) if step == 0 else ([5, 2], [9, 7])
    spec = {
        "dataset": "patches",
        "task": "semantic",
        "setting": setting,
        "seed": seed,
        "step": {"index": step, "past": past, "current": current},
        "method": {"name": method, "hyper_parameters": hyper_parameters or {}},
        "recipe": {**RECIPE, **recipe},
    }
    return json.dumps(spec)


def job(step=0, method="finetuning", **options):
    return parse_spec(text_of(step, method, **options))


def split_content(index, **changes):
    past, current = ([], [5, 2]) if index == 0 else ([5, 2], [9, 7])
    content = {
        "dataset": "patches",
        "task": "semantic",
        "setting": "overlapped",
        "split": "train",
        "rule": "…",
        "step": index,
        "past": past,
        "current": current,
        "visible": current,
        "images": [str(k) for k in range(12)],
    }
    return {**content, **changes}


def memory_content(**changes):
    images = [{"id": name, "classes": {"5": 1}} for name in ("0", "1", "2")]
    content = {"dataset": "patches", "task": "semantic", "selection": "random", "size": 3, "seed": 0, "step": 1}
    counts = {"counts": {"5": 3}, "training_counts": {"5": 12}}
    return {**content, "classes": [5, 2], "images": images, **counts, **changes}


@pytest.fixture
def files(data, tmp_path):
    """Makes the files of a job; keyword arguments change the content of split and memory."""

    def make(index, previous=None, memory=None, **split):
        split_file = tmp_path / f"split{index}.json"
        write_checked(split_file, split_content(index, **split))
        memory_file = None
        if memory is not None:
            memory_file = tmp_path / "memory.json"
            write_checked(memory_file, memory)
        return JobFiles(data, split_file, previous, memory_file)

    return make


@pytest.fixture
def run(small):
    def start(spec, files, **options):
        notes = small.Notes()
        outcome = run_job(spec, files, device=CPU, make_reporter=lambda iterations: notes, **options)
        return outcome, notes

    return start


@pytest.fixture
def base(run, files, tmp_path):
    """A trained base step as a file."""
    outcome, _ = run(job(0), files(0))
    path = tmp_path / "base.pt"
    save_checkpoint(path, outcome.checkpoint)
    return path


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_base_step_and_an_increment_train(run, files, base):
    first = load_checkpoint(base)
    assert first.classes == (5, 2) and first.classes_per_step == (2,) and first.step == 0
    outcome, notes = run(job(1), files(1, base))
    second = outcome.checkpoint
    assert second.classes == (5, 2, 9, 7) and second.classes_per_step == (2, 2) and second.step == 1
    assert len(notes.seen) == outcome.facts["iterations"] == 4
    moved = [key for key, value in first.network.items() if not torch.equal(value, second.network[key])]
    assert any("backbone" in key for key in moved)
    assert second.spec["recipe"]["batch_size"] == 4


def test_longer_training_learns_the_patches(run, files):
    _, notes = run(job(0, iterations=40, batch_size=6), files(0))
    losses = [terms["total"] for _, _, terms in notes.seen]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])


@pytest.mark.parametrize("method", ["finetuning", "lwf", "mib"])
def test_equal_jobs_give_equal_weights_bit_for_bit(run, files, base, method):
    once, first = run(job(1, method), files(1, base))
    again, second = run(job(1, method), files(1, base), workers=1)
    other, _ = run(job(1, method, seed=1), files(1, base))
    assert same_weights(once.checkpoint.network, again.checkpoint.network)
    assert first.seen == second.seen
    assert not same_weights(once.checkpoint.network, other.checkpoint.network)


def test_methods_see_the_same_images_and_differ(run, files, base):
    plain, _ = run(job(1, "finetuning"), files(1, base))
    distilled, notes = run(job(1, "lwf"), files(1, base))
    assert not same_weights(plain.checkpoint.network, distilled.checkpoint.network)
    assert set(notes.seen[0][2]) > {"total", "distillation"}


def test_hyper_parameters_reach_the_method(run, files, base):
    weak, first = run(job(1, "lwf", hyper_parameters={"distillation_weight": 1.0}), files(1, base))
    strong, second = run(job(1, "lwf", hyper_parameters={"distillation_weight": 10.0}), files(1, base))
    assert second.seen[0][2]["distillation"] == pytest.approx(10 * first.seen[0][2]["distillation"], rel=1e-5)
    assert not same_weights(weak.checkpoint.network, strong.checkpoint.network)


def test_exemplars_enter_with_the_labels_of_all_classes_seen(run, files, base):
    plain, _ = run(job(1, "finetuning-replay"), files(1, base, memory_content()))
    assert plain.facts["exemplars"] == 3 and plain.facts["images"] == 12
    less = memory_content(images=[{"id": "0", "classes": {"5": 1}}], counts={"5": 1})
    fewer, _ = run(job(1, "finetuning-replay"), files(1, base, less))
    assert not same_weights(plain.checkpoint.network, fewer.checkpoint.network)


@pytest.mark.parametrize("setting", ["overlapped", "sequential"])
def test_which_labels_images_and_exemplars_show(files, data, setting):
    """Positions: 0 background, 1 and 2 the past classes 5 and 2, 3 and 4 the current classes 9 and 7."""
    spec = job(1, "finetuning-replay", setting=setting)
    visible = [9, 7] if setting == "overlapped" else [5, 2, 9, 7]
    given = files(1, None, memory_content(), setting=setting, visible=visible)
    images = read_step_images(spec, given.split, given.memory)
    loader = step_loader(spec, PreparedDataset.open(data), images, build_method(spec), 0, CPU)
    own, replayed = set(), set()
    for batch in loader.batches(0, 9):
        for labels, from_memory in zip(batch.labels, batch.from_memory, strict=True):
            (replayed if from_memory else own).update(labels.unique().tolist())
    assert own == ({0, 3, 4} if setting == "overlapped" else {0, 1, 2, 3, 4})
    assert replayed == {0, 1, 2, 3, 4}


def test_new_outputs_start_alike_whatever_was_learnt_before(tmp_path):
    starts = []
    for past in ([5], [5, 2]):
        network = build_network("deeplabv3", [len(past)], {k: v for k, v in RECIPE["network"].items() if k != "name"})
        path = tmp_path / f"{len(past)}.pt"
        save_checkpoint(path, Checkpoint(network.state_dict(), tuple(past), (len(past),), 0, RECIPE["network"]))
        spec = json.loads(text_of(1))
        spec["step"] = {"index": 1, "past": past, "current": [9]}
        grown, _, _ = build_networks(parse_spec(json.dumps(spec)), path, build_method(job(1)), CPU)
        starts.append(grown.cls[1].weight)
    assert torch.equal(*starts)


def test_a_recipe_may_keep_the_best_network(run, files):
    recipe = {"keep_best": {"protocol": "segue", "at_least": 1, "fraction": 0.5}}
    with pytest.raises(JobError, match="'keep_best'"):
        run(job(0, **recipe), files(0))
    seen = []

    def score(network):
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return float(-len(seen))

    outcome, notes = run(job(0, **recipe), files(0), score=score)
    assert len(seen) == 2 and outcome.facts["best"] == {"iteration": len(notes.seen) // 2, "score": -1.0}
    assert same_weights(outcome.checkpoint.network, seen[0])
    last, _ = run(job(0), files(0))
    assert same_weights(last.checkpoint.network, seen[1])


def test_epochs_count_whole_updates():
    def recipe(**changes):
        return RecipeSpec.model_validate({**RECIPE, "iterations": None, "epochs": 3, **changes})

    assert step_iterations(recipe(), batches_per_epoch=5) == 15
    assert step_iterations(recipe(accumulate=2), batches_per_epoch=5) == 6
    assert step_iterations(recipe(accumulate=4), batches_per_epoch=3) == 3
    assert step_iterations(recipe(iterations=7, epochs=None), batches_per_epoch=5) == 7


def test_accumulated_passes_share_one_batch_size(run, files):
    outcome, notes = run(job(0, accumulate=2), files(0))
    assert len(notes.seen) == 4 and outcome.facts["batches_per_epoch"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 1}, "has step = 1, but the job is about step = 0"),
        ({"current": [2, 5]}, r"has current = \[2, 5\]"),
        ({"setting": "disjoint"}, "has setting = disjoint"),
        ({"images": []}, "images: list should have at least 1 item"),
        ({"images": [1]}, "images.0: input should be a valid string, found '1'"),
    ],
)
def test_a_split_of_another_job_is_refused(run, files, changes, message):
    with pytest.raises(ValueError, match=r"split0\.json: " + message):
        run(job(0), files(0, **changes))


def test_a_damaged_or_missing_split_is_named(run, files, tmp_path):
    given = files(0)
    given.split.write_text('{"dataset": ')
    with pytest.raises(FileError, match=r"split0\.json is not valid JSON"):
        run(job(0), given)
    given.split.unlink()
    with pytest.raises(FileError, match=r"split0\.json does not exist"):
        run(job(0), given)


@pytest.mark.parametrize("changes", [{"step": 2}, {"classes": [2, 5]}, {"dataset": "other"}])
def test_a_memory_of_another_step_is_refused(run, files, base, changes):
    with pytest.raises(InputError, match=r"memory\.json: has"):
        run(job(1, "finetuning-replay"), files(1, base, memory_content(**changes)))


def test_files_must_match_step_and_method(run, files, base):
    with pytest.raises(JobError, match="continues from the checkpoint of step 0"):
        run(job(1), files(1))
    with pytest.raises(JobError, match="base step starts from no checkpoint"):
        run(job(0), files(0, base))
    with pytest.raises(JobError, match="replays exemplars; give the memory"):
        run(job(1, "finetuning-replay"), files(1, base))
    with pytest.raises(JobError, match="replays nothing"):
        run(job(1), files(1, base, memory_content()))


def test_a_checkpoint_of_another_network_or_step_is_refused(run, files, base, tmp_path):
    with pytest.raises(CheckpointError, match=r"base\.pt: its network has channels = 16, but the recipe says 8"):
        run(job(1, network={**RECIPE["network"], "channels": 8}), files(1, base))
    outcome, _ = run(job(1), files(1, base))
    later = tmp_path / "later.pt"
    save_checkpoint(later, outcome.checkpoint)
    with pytest.raises(CheckpointError, match=r"later\.pt: knows 4 classes, but 2 are expected"):
        run(job(1), files(1, later))


def test_first_weights_fill_the_backbone_of_the_base_step_only(run, files, base, tmp_path, monkeypatch):
    from model.networks import registry

    arguments = {key: value for key, value in RECIPE["network"].items() if key != "name"}
    torch.manual_seed(99)
    backbone = registry.build("deeplabv3", [2], arguments).backbone.state_dict()
    torch.save(backbone, tmp_path / "resnet.pth")
    monkeypatch.setenv("SEGUE_TEST_WEIGHTS", str(tmp_path))
    entry = {"file": "$SEGUE_TEST_WEIGHTS/resnet.pth", "source": "torchvision"}
    frozen = {"optimiser": {**RECIPE["optimiser"], "learning_rate": 1e-12, "weight_decay": 0.0}, "iterations": 1}
    network = {**RECIPE["network"], "weights": entry}
    outcome, _ = run(job(0, network=network, **frozen), files(0))
    found = outcome.checkpoint.network
    assert all(
        torch.allclose(found[f"backbone.{key}"], value, atol=1e-6) for key, value in backbone.items() if "weight" in key
    )
    assert "weights" not in outcome.checkpoint.network_arguments
    digest = hashlib.sha256((tmp_path / "resnet.pth").read_bytes()).hexdigest()
    assert outcome.facts["initial_weights"] == {"source": "torchvision", "sha256": digest}
    save_checkpoint(tmp_path / "pretrained.pt", outcome.checkpoint)
    (tmp_path / "resnet.pth").unlink()
    run(job(1, network=network), files(1, tmp_path / "pretrained.pt"))  # does not look for the file again


def test_the_entry_runs_through_no_network_method_or_loss():
    names = {file.relative_to(PROJECT).as_posix() for file in import_closure([SCRIPT])}
    allowed = {
        f"model/{name}.py" for name in ("methods/__init__", "methods/base", "methods/errors", "networks/__init__")
    }
    foreign = [
        n for n in names if n.startswith(("model/methods/", "model/networks/", "model/losses/")) and n not in allowed
    ]
    assert foreign == []
    assert "model/training/loop.py" in names


def test_the_entry_runs_through_the_loader_of_no_family():
    names = {file.relative_to(PROJECT).as_posix() for file in import_closure([SCRIPT])}
    own = {
        family: {file.relative_to(PROJECT).as_posix() for file in import_closure([loaders.module_of(family)])}
        for family in loaders.LOADERS
    }
    assert {"model/data/loading/pixel_loading.py", "model/data/loading/pixel_transforms.py"} <= own["per-pixel"]
    assert {"model/data/loading/mask_loading.py", "model/data/loading/mask_transforms.py"} <= own["mask"]
    own_alone = {
        "model/data/loading/pixel_loading.py",
        "model/data/loading/pixel_transforms.py",
        "model/data/loading/mask_loading.py",
    }
    assert not own_alone & names and not own_alone & own["mask"] & own["per-pixel"]


def command(text, given, folder, *more):
    out = {"--checkpoint": "checkpoint.pt", "--record": "train.json", "--curves": "train.csv", "--work": "work"}
    arguments = [str(SCRIPT), "--spec", text, "--data", str(given.data / "dataset.json")]
    arguments += ["--split", str(given.split), "--device", "cpu"]
    for option, name in out.items():
        arguments += [option, str(folder / name)]
    return [*arguments, *more]


@pytest.fixture
def run_command(monkeypatch):
    """Runs the script inside this process; returns its exit status."""

    def start(arguments):
        monkeypatch.setattr(sys, "argv", arguments)
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as end:
            return end.code
        return 0

    return start


def test_the_command_writes_checkpoint_record_and_curves(run_command, files, tmp_path, capsys):
    assert run_command(command(text_of(0), files(0), tmp_path / "out")) == 0
    assert "iteration 4/4" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "train.json").read_text())
    assert record["spec"] == json.loads(text_of(0)) and "model.training.loop" in record["modules"]
    given = files(0)
    read = {"dataset": given.data / "dataset.json", "split": given.split}
    assert {name: entry["sha256"] for name, entry in record["inputs"].items()} == {
        n: checksum(f) for n, f in read.items()
    }
    assert record["outputs"] == {name: checksum(tmp_path / "out" / name) for name in ("checkpoint.pt", "train.csv")}
    assert record["iterations"] == 4 and record["images"] == 12 and record["trainable_parameters"] > 1000
    assert record["machine"]["threads"] == 1 and record["peak_memory"]["resident_bytes"] > 1e7
    rows = list(csv.DictReader((tmp_path / "out" / "train.csv").open()))
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["total"]) == pytest.approx(record["final"]["total"], rel=1e-6)
    assert load_checkpoint(tmp_path / "out" / "checkpoint.pt").classes == (5, 2)


def test_a_problem_is_one_line_and_status_one(run_command, files, tmp_path, capsys):
    assert run_command(command(text_of(0), files(0, step=3), tmp_path / "out")) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and "split0.json: has step = 3" in lines[0]
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_stopped_training_goes_on_and_ends_with_the_same_bytes(number, run, run_command, files, tmp_path):
    given = files(0)
    outcome, _ = run(job(0, iterations=40), given)
    save_checkpoint(tmp_path / "whole.pt", outcome.checkpoint)

    arguments = command(text_of(0, iterations=40), given, tmp_path, "--snapshot-minutes", "0")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen([sys.executable, *arguments, "--workers", "1"], env=environment, **options)
    while not list(tmp_path.glob("work/snapshots/*.pt")) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, number)  # the loading process gets it too, as on a cluster or at a terminal
    _, errors = process.communicate()
    assert process.returncode == 128 + number, errors
    assert f"stopped by {number.name} after iteration" in errors and "run it again" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "checkpoint.pt").exists()

    for snapshot in tmp_path.glob("work/snapshots/*.pt"):  # as if it had taken longer until then
        torch.save({**load_data(snapshot), "seconds": 5000.0}, snapshot)
        snapshot.rename(snapshot.with_stem(f"{snapshot.stem[:-16]}{checksum(snapshot)[:16]}"))
    assert run_command([*arguments[:-1], "10"]) == 0
    record = json.loads((tmp_path / "train.json").read_text())
    assert 0 < record["resumed_at"] < 40
    assert 5000 < record["seconds"] < 6000, "all of it, not only what came after the interruption"
    assert (tmp_path / "whole.pt").read_bytes() == (tmp_path / "checkpoint.pt").read_bytes()
    rows = list(csv.DictReader((tmp_path / "train.csv").open()))
    assert [row["iteration"] for row in rows] == [str(k + 1) for k in range(40)]
    assert not list(tmp_path.glob("work/snapshots/*.pt"))


@pytest.mark.parametrize(("method", "whole"), [("mib", False), ("ewf", True)])
def test_the_old_model_is_folded_unless_a_method_reads_its_parameters(base, method, whole):
    spec = job(1, method)
    _, old, _ = build_networks(spec, base, build_method(spec), CPU)
    checkpoint = load_checkpoint(base)
    assert (set(old.state_dict()) == set(checkpoint.network)) == whole
    assert not old.training and not any(p.requires_grad for p in old.parameters())
    arguments = {key: value for key, value in RECIPE["network"].items() if key != "name"}
    network = build_network("deeplabv3", checkpoint.classes_per_step, arguments).eval()
    network.load_state_dict(checkpoint.network)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(old(images).logits, network(images).logits, atol=1e-4, rtol=1e-4)
