"""Records of evaluation jobs become tidy tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_runs import NAMES, SCENARIO, evaluate, measure_joint, measure_run, run

from model.evaluation.metrics.forgetting import StepsError
from model.evaluation.metrics.overlaps import PanopticAccumulator, Segment
from model.reporting.records import EvaluationRecord, Measurement, RecordError, measure
from model.reporting.tables import CLASS_COLUMNS, METRIC_COLUMNS, class_rows, metric_rows, read_csv, write_csv
from model.scenario import class_groups


@pytest.fixture
def measurements(tmp_path: Path) -> list[Measurement]:
    found = measure_run(tmp_path, "mib", (0.9, 0.7, 0.6)) + measure_run(tmp_path, "finetuning", (0.9, 0.4, 0.1))
    return [*measure_joint(tmp_path, 0.95), *found]


def value(frame: pd.DataFrame, **where: object) -> float:
    for column, wanted in where.items():
        frame = frame[frame[column] == wanted]
    assert len(frame) == 1
    return float(frame["value"].iloc[0])


def test_columns_are_the_agreed_ones(measurements: list[Measurement]) -> None:
    frame = metric_rows(measurements)
    agreed = "dataset,task,scenario,setting,recipe,method,seed,step,protocol,group,metric,value"
    assert ",".join(frame.columns) == ",".join(METRIC_COLUMNS) == agreed
    assert set(CLASS_COLUMNS) - set(METRIC_COLUMNS) == {"class"}
    assert set(class_rows(measurements).columns) == set(CLASS_COLUMNS)


def test_every_step_has_its_groups(measurements: list[Measurement]) -> None:
    frame = metric_rows(measurements)
    mib = frame[(frame["method"] == "mib") & (frame["metric"] == "mIoU")]
    groups = {step: set(part["group"]) for step, part in mib.groupby("step")}
    everything = {"old", "new", "past", "current", "all"}
    assert groups == {0: {"old", "current", "all"}, 1: everything, 2: everything}
    assert value(mib, step=0, group="old") == value(mib, step=0, group="all")
    assert value(mib, step=1, group="new") == value(mib, step=1, group="current")


def test_the_upper_bound_is_averaged_over_the_classes_seen_at_every_step(measurements: list[Measurement]) -> None:
    frame, classes = metric_rows(measurements), class_rows(measurements)
    joint, iou = (
        frame[frame["method"] == "joint"],
        classes[(classes["method"] == "joint") & (classes["metric"] == "IoU")],
    )
    of = {row["class"]: row["value"] for _, row in iou.iterrows()}
    assert set(iou["step"]) == {SCENARIO.last} and len(of) == 4
    for step in range(SCENARIO.last + 1):
        seen = [of[NAMES[category]] for category in SCENARIO.step(step).seen]
        assert value(joint, step=step, metric="mIoU", group="all") == pytest.approx(sum(seen) / len(seen))
        assert value(joint, step=step, metric="mIoU", group="old") == pytest.approx((of["sky"] + of["sea"]) / 2)
    assert "forgetting" not in set(joint["metric"])
    assert not any(metric.endswith("_avg") for metric in joint["metric"])


def test_values_over_steps(measurements: list[Measurement]) -> None:
    frame = metric_rows(measurements)
    for method in ("mib", "finetuning"):
        part = frame[frame["method"] == method]
        steps = [value(part, step=step, metric="mIoU", group="all") for step in range(3)]
        assert value(part, metric="mIoU_avg") == pytest.approx(sum(steps) / 3)
        classes = class_rows(measurements)
        classes = classes[(classes["method"] == method) & (classes["metric"] == "IoU")]
        drops = []
        for name in ("sky", "sea"):
            values = [value(classes, step=step, **{"class": name}) for step in range(3)]
            drops.append(max(values[:2]) - values[2])
        assert value(part, metric="forgetting", group="old") == pytest.approx(sum(drops) / 2)
    assert set(frame[frame["metric"] == "forgetting"]["group"]) == {"old", "new", "past", "all"}
    forgotten = {m: value(frame, method=m, metric="forgetting", group="old") for m in ("mib", "finetuning")}
    assert forgotten["finetuning"] > forgotten["mib"] > 0


def test_classes_have_their_names_and_groups(measurements: list[Measurement]) -> None:
    frame = class_rows(measurements)
    last = frame[(frame["method"] == "mib") & (frame["step"] == 2) & (frame["metric"] == "IoU")]
    assert dict(zip(last["class"], last["group"], strict=True)) == {
        "sky": "past",
        "sea": "past",
        "cat": "past",
        "dog": "current",
    }
    assert set(frame["class"]) == set(NAMES.values())


def test_the_order_of_input_does_not_matter(tmp_path: Path, measurements: list[Measurement]) -> None:
    for name, order in (("a.csv", measurements), ("b.csv", list(reversed(measurements)))):
        write_csv(metric_rows(order), tmp_path / name)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_csv_round_trip(tmp_path: Path, measurements: list[Measurement]) -> None:
    frame = metric_rows([replace(m, run=replace(m.run, recipe="none")) for m in measurements])
    write_csv(frame, tmp_path / "metrics.csv")
    again = read_csv(tmp_path / "metrics.csv")
    assert set(again["recipe"]) == {"none"}
    pd.testing.assert_frame_equal(again, frame, check_exact=False, atol=1e-6, check_dtype=False)


def test_a_gap_in_a_run_is_an_error(measurements: list[Measurement]) -> None:
    without = [m for m in measurements if (m.run.method, m.step) != ("mib", 1)]
    with pytest.raises(StepsError, match=r"toy/semantic/2-1/overlapped/tiny/mib/seed0 \(segue\): step 1 was not"):
        metric_rows(without)


def test_records_round_trip(tmp_path: Path) -> None:
    path = evaluate(tmp_path / "x", (1, 2), 0, 0.5)
    record = replace(EvaluationRecord.read(path), per_class={"AP": {"1": 12.5, "2": None}})
    record.write(path)
    assert EvaluationRecord.read(path) == record


def test_means_of_per_class_metrics(tmp_path: Path) -> None:
    path = evaluate(tmp_path / "x", (1, 2, 3), 1, 0.5)
    record = replace(EvaluationRecord.read(path), per_class={"AP": {"1": 10.0, "2": None, "3": 40.0}}, files={})
    record.write(path)
    found = measure(path, run("mib"), 1, class_groups(SCENARIO, 1))
    assert {group: values["AP"] for group, values in found.scores.groups.items()} == {
        "old": 10.0,
        "new": 40.0,
        "past": 10.0,
        "current": 40.0,
        "all": 25.0,
    }


@pytest.mark.parametrize(("content", "message"), [("{", "is not valid JSON"), ('{"format": 0}', "format 0")])
def test_damaged_records(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(RecordError, match=message):
        EvaluationRecord.read(tmp_path / "evaluation.json")
    with pytest.raises(RecordError, match="missing"):
        EvaluationRecord.read(tmp_path / "nowhere.json")


def test_records_of_something_else_are_refused(tmp_path: Path) -> None:
    path = evaluate(tmp_path / "x", (1, 2), 0, 0.5)
    with pytest.raises(RecordError, match=r"knows 2 classes, but step 1 of .* has 3"):
        measure(path, run("mib"), 1, class_groups(SCENARIO, 1))
    with pytest.raises(RecordError, match=r"made on toy \(semantic\)"):
        measure(path, replace(run("mib"), dataset="other"), 0, class_groups(SCENARIO, 0))


def test_panoptic_records_are_read_by_the_protocol(tmp_path: Path) -> None:
    """Class 4 is not learnt after step 1; its segment is void for segue and missed for comformer."""
    truth = np.repeat([[1, 2, 3, 4]], 4, axis=0)
    accumulator = PanopticAccumulator()
    segments = [Segment(category, category) for category in (1, 2, 3)]
    accumulator.add(truth, [*segments, Segment(4, 4)], np.where(truth < 4, truth, 0), segments)
    values = {}
    for protocol in ("segue", "comformer"):
        path = evaluate(tmp_path / protocol, (1, 2, 3), 1, 0.5, protocol=protocol)
        accumulator.overlaps().save(path.parent / "panoptic.npz")
        record = EvaluationRecord.read(path)
        replace(record, task="panoptic", files={"panoptic": "panoptic.npz", **record.files}).write(path)
        found = measure(path, replace(run("mib"), task="panoptic"), 1, class_groups(SCENARIO, 1))
        values[protocol] = found.scores.groups["all"]["PQ"]
        assert found.scores.groups["new"]["PQ_things"] == 100
        assert found.scores.classes["PQ"] == {"1": 100, "2": 100, "3": 100}
        assert "mIoU" in found.scores.groups["all"]  # from the confusion matrix beside it
    assert values == {"segue": 100, "comformer": 75}
    (path.parent / "panoptic.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"panoptic\.npz"):
        measure(path, replace(run("mib"), task="panoptic"), 1, class_groups(SCENARIO, 1))
