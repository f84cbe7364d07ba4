"""The plan: which jobs a comparison needs, and which of them are one job."""

import copy
from importlib import metadata

import pytest

from model.config.messages import ConfigError
from model.config.reading import parse_config
from model.workflow.jobs import evaluation_code, training_code
from model.workflow.plan import Plan
from model.workflow.plan_jobs import AGREEMENT, plan_jobs

RECIPE = {
    "family": "per-pixel",
    "network": {"name": "deeplabv3", "backbone": "tiny"},
    "optimiser": {"name": "sgd", "learning_rate": 0.1},
    "base": {"iterations": 10},
    "increment": {"iterations": 5},
    "batch_size": 2,
    "transform": {"name": "full-image"},
}
EXPERIMENT = {"dataset": "toy", "scenarios": ["6-3"], "recipe": "small", "methods": ["finetuning"]}


def plan(*experiments, recipe=RECIPE, dataset=None):
    """The plan of some experiments on a generated dataset of 12 classes."""
    return Plan(
        parse_config(
            {
                "schema_version": 1,
                "datasets": {"toy": {"kind": "shapes", "stuff": 6, "things": 6, **(dataset or {})}},
                "recipes": {"small": recipe},
                "experiments": [{**EXPERIMENT, **experiment} for experiment in experiments],
            }
        )
    )


def trainings(found, kind):
    """Folders of the base or of the increment trainings."""
    return [directory for directory in found.trainings if directory.startswith(kind)]


def test_a_run_has_a_training_and_an_evaluation_a_step():
    found = plan({})
    assert len(trainings(found, "base")) == 1 and len(trainings(found, "runs")) == 2
    assert [t.split.step.index for t in found.runs[0].trainings] == [0, 1, 2]
    assert len(found.evaluations) == 3 and len(found.splits) == 3


def test_methods_that_do_nothing_special_at_step_0_share_the_base_step():
    found = plan({"methods": ["finetuning", "mib", "lwf", "ilt"]})
    assert len(trainings(found, "base")) == 1
    assert len(trainings(found, "runs")) == 4 * 2
    assert len({run.trainings[0].directory for run in found.runs}) == 1


def test_lwf_mc_trains_its_own_base_step():
    assert len(trainings(plan({"methods": ["finetuning", "lwf-mc"]}), "base")) == 2


def test_scenarios_with_the_same_base_classes_share_the_base_step_per_recipe_and_seed():
    found = plan({"scenarios": ["6-3", "6-2", "6-6"], "seeds": [0, 1]})
    assert len(trainings(found, "base")) == 2
    assert {directory.rsplit("/", 1)[1] for directory in trainings(found, "base")} == {"seed0", "seed1"}


def test_joint_is_one_training_for_all_scenarios_and_settings():
    found = plan({"scenarios": ["6-3", "8-4"], "settings": ["overlapped", "disjoint"], "methods": ["joint"]})
    assert len(found.runs) == 4
    assert len(found.trainings) == 1


def test_another_seed_recipe_or_setting_is_another_base_step():
    assert len(trainings(plan({"settings": ["overlapped", "disjoint"]}), "base")) == 2


def test_a_hyper_parameter_of_a_step_enters_that_step_alone():
    plain, strong = (
        plan({"methods": [{"name": "mib", "steps": steps}]}) for steps in ({}, {2: {"distillation_weight": 3.0}})
    )
    differing = [d for d, training in plain.trainings.items() if training.spec != strong.trainings[d].spec]
    assert len(differing) == 1 and differing[0].endswith("mib/seed0/step2")


def test_memories_form_a_chain_and_are_planned_only_for_methods_that_replay():
    memory = {"selection": "random", "size": 5}
    found = plan({"methods": ["finetuning", "finetuning-replay"], "memory": memory})
    assert len(found.memories) == 2
    last = max(found.memories.values(), key=lambda job: job.step.index)
    assert last.previous is not None and last.previous.previous is None
    assert last.split.step.index == 1
    assert not plan({"memory": memory}).memories


def test_two_labels_are_two_runs_of_one_method():
    entries = [{"name": "mib"}, {"name": "mib", "label": "mib-20", "hyper_parameters": {"distillation_weight": 20.0}}]
    found = plan({"methods": entries})
    assert [run.method for run in found.runs] == ["mib", "mib-20"]
    assert len(trainings(found, "runs")) == 4


def test_explicit_lists_may_use_names():
    names = [category.name for category in plan({}).categories["toy"]]
    found = plan({"scenarios": [{"name": "mine", "steps": [names[:10], names[10:]]}]})
    assert [len(step) for step in found.runs[0].scenario.increments] == [10, 2]


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        (
            {"methods": ["mibb"]},
            "experiments[0].methods[0]: unknown per-pixel method 'mibb'; did you mean 'mib'?",
        ),
        ({"methods": [{"name": "mib", "hyper_parameters": {"weight": 1}}]}, "has no hyper-parameter 'weight'"),
        ({"methods": [{"name": "mib", "hyper_parameters": {"distillation_weight": "a"}}]}, "distillation_weight"),
        ({"methods": ["finetuning-replay"]}, "replays exemplars; give the experiment a 'memory'"),
        ({"methods": [{"name": "mib", "steps": {7: {}}}]}, "ends at step 2, there is no step 7"),
        ({"scenarios": ["6-4"]}, "is not a multiple of 4"),
        ({"scenarios": ["6-3q"]}, "no class order 'q'"),
        ({"scenarios": ["joint"]}, "'joint' is a method"),
        ({"scenarios": [{"name": "mine", "steps": [["nothing"]]}]}, "unknown class 'nothing'"),
        ({"protocols": ["segui"]}, "unknown protocol 'segui'; did you mean 'segue'?"),
        ({"task": "panoptic"}, "the method is for semantic segmentation, not panoptic"),
    ],
)
def test_an_impossible_combination_is_one_line_with_the_key(experiment, expected):
    with pytest.raises(ConfigError) as caught:
        plan(experiment)
    assert expected in str(caught.value) and "experiments[0]" in str(caught.value)


def test_a_dataset_option_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match=r"datasets\.toy: .*thinks"):
        plan({}, dataset={"thinks": 3})


def test_the_order_of_experiments_changes_no_job():
    first, second = {"scenarios": ["6-3"]}, {"scenarios": ["8-2"], "methods": ["mib"]}
    forward, backward = plan(first, second), plan(second, first)
    assert forward.trainings.keys() == backward.trainings.keys()
    assert all(forward.trainings[d].spec == backward.trainings[d].spec for d in forward.trainings)


def test_a_plan_leaves_its_configuration_alone():
    config = parse_config(
        {
            "schema_version": 1,
            "datasets": {"toy": {"kind": "shapes", "stuff": 6, "things": 6}},
            "recipes": {"small": RECIPE},
            "experiments": [EXPERIMENT],
        }
    )
    before = copy.deepcopy(config.model_dump())
    Plan(config)
    assert config.model_dump() == before


def test_the_published_scenarios_share_one_base_step_per_recipe_and_seed():
    experiment = {"scenarios": ["100-50", "100-10", "100-5"], "methods": ["finetuning", "mib", "lwf"], "seeds": [0, 1]}
    found = plan(experiment, dataset={"stuff": 50, "things": 100})
    assert len(trainings(found, "base")) == 2
    increments = {"100-50": 1, "100-10": 5, "100-5": 10}
    assert len(trainings(found, "runs")) == 3 * 2 * sum(increments.values())
    for run in found.runs:
        assert len(run.trainings) == 1 + increments[run.scenario.name]
        assert run.trainings[0] is found.runs[0 if run.seed == found.runs[0].seed else 1].trainings[0]


MASK_RECIPE = {
    **RECIPE,
    "family": "mask",
    "network": {"name": "mask2former", "backbone": "tiny"},
    "transform": {"name": "fixed-square", "size": 64},
}


def test_a_shared_base_step_is_read_once_where_the_decisions_agree():
    sure = {"name": "balconpas", "hyper_parameters": {"object_threshold": 0.5}}
    for methods, variants in (
        (["finetuning", "balconpas"], {"segue"}),
        (["finetuning", sure], {"segue", "segue_balconpas"}),
    ):
        found = plan({"task": "panoptic", "methods": methods}, recipe=MASK_RECIPE)
        of_base = [directory for directory in found.evaluations if directory.startswith("base/")]
        names = [
            directory.rsplit("/", 1)[1].rsplit("_", 1) for directory in of_base
        ]  # a reading of its own ends in a key
        assert {name[0] for name in names} == variants and len(of_base) == len(variants)


def test_one_name_cannot_stand_for_two_scenarios():
    one = {"scenarios": [{"name": "mine", "steps": [[0, 1, 2], [3]]}]}
    other = {"scenarios": [{"name": "mine", "steps": [[0, 1], [3]]}], "methods": ["mib"]}
    with pytest.raises(ConfigError, match="'mine' already means other classes"):
        plan(one, other)


def test_the_base_step_of_sequential_is_that_of_disjoint():
    found = plan({"settings": ["disjoint", "sequential"]})
    assert len(trainings(found, "base")) == 1 and len(trainings(found, "runs")) == 4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"transform": {"name": "full-picture"}}, "recipe 'small': unknown transform 'full-picture'"),
        ({"transform": {"name": "random-resized-crop", "sizes": 3}}, "recipe 'small': .*sizes"),
        ({"network": {"name": "deeplabv3", "backbon": "tiny"}}, "did you mean 'backbone'"),
        ({"network": {"name": "deeplabv3", "channels": 0}}, "'channels' .* is 0: input should be greater than"),
        ({"network": {"name": "deeplabv3", "channels": -1}}, "'channels' .* is -1: input should be greater than"),
        (
            {"network": {"name": "deeplabv3", "channels": "64"}},
            "'channels' .* is '64': input should be a valid integer",
        ),
        ({"network": {"name": "deeplabv3", "channels": 10**9}}, "'channels' .* is 1000000000: input should be less"),
        ({"network": {"name": "deeplabv3", "channels": 1.0e9}}, "'channels' .* should be a valid integer"),
        ({"network": {"name": "deeplabv3", "head": "mob"}}, "'head' .* is 'mob': input should be 'mib' or 'dkd'"),
        ({"transform": {"name": "scale-crop", "size": "48"}}, "'size' .* is '48': input should be a valid integer"),
        ({"transform": {"name": "scale-crop", "size": 48.5}}, "'size' .* is 48.5: input should be a valid integer"),
        ({"transform": {"name": "scale-crop", "size": 0}}, "'size' .* is 0: input should be greater"),
        ({"transform": {"name": "scale-crop", "size": -5}}, "'size' .* is -5: input should be greater"),
        (
            {"transform": {"name": "scale-crop", "size": 48, "scale": [2, 1]}},
            "'scale' .* expected two positive factors",
        ),
        ({"transform": {"name": "scale-crop"}}, "transform 'scale-crop' needs the argument 'size'"),
        ({"network": {"name": "deeplab"}}, "recipe 'small': unknown network 'deeplab'"),
    ],
)
def test_a_recipe_is_checked_before_anything_runs(change, expected):
    with pytest.raises(ConfigError, match=expected):
        plan({}, recipe={**RECIPE, **change})


def test_per_pixel_networks_take_no_more_classes_than_their_label_maps_hold():
    names = [f"class {number}" for number in range(300)]

    def of_classes(count):
        experiment = {**EXPERIMENT, "scenarios": [{"name": "many", "steps": [names[:count]]}]}
        dataset = {"kind": "folder", "root": "raw", "classes": names}
        config = {"schema_version": 1, "datasets": {"toy": dataset}, "recipes": {"small": RECIPE}}
        return Plan(parse_config({**config, "experiments": [experiment]}))

    assert len(of_classes(254).runs[0].scenario.order) == 254
    with pytest.raises(ConfigError, match=r"experiments\[0\]\.scenarios: 'many' has 255 classes, .* hold 254; use"):
        of_classes(255)


def test_a_dataset_option_of_the_wrong_type_is_named():
    with pytest.raises(ConfigError, match=r"datasets\.toy: option 'train_images' of dataset kind 'shapes' is 'many'"):
        plan({}, dataset={"train_images": "many"})


def test_first_weights_and_what_reads_them_belong_to_the_base_step(monkeypatch):
    monkeypatch.setenv("SEGUE_WEIGHTS", "/weights")
    network = {**RECIPE["network"], "weights": {"file": "$SEGUE_WEIGHTS/r.pth", "source": "torchvision"}}
    found = plan({}, recipe={**RECIPE, "network": network}).runs[0].trainings
    assert str(found[0].weights) == "/weights/r.pth" and found[1].weights is None
    reader = "model.networks.deeplabv3.released_weights"
    assert reader in training_code(found[0].spec) and reader not in training_code(found[1].spec)


TIMM = {"name": "deeplabv3", "backbone": "timm/test_resnet", "output_stride": 32, "channels": 16}


def test_the_version_of_timm_belongs_to_recipes_that_use_it():
    found = plan({}, recipe={**RECIPE, "network": TIMM}).runs[0]
    own = plan({}).runs[0]
    module = "model.networks.backbones.timm"
    for training in found.trainings:
        assert training.spec["recipe"]["timm"] == metadata.version("timm")
        assert module in training_code(training.spec)
    for evaluations in found.evaluations.values():
        assert all(one.spec["timm"] == metadata.version("timm") for one in evaluations)
        assert all(module in evaluation_code(one.spec) for one in evaluations)
    assert not any("timm" in one.spec["recipe"] or module in training_code(one.spec) for one in own.trainings)
    assert not any("timm" in one.spec for evaluations in own.evaluations.values() for one in evaluations)


@pytest.mark.parametrize(
    ("network", "method", "expected"),
    [
        (
            {**TIMM, "backbone": "timm/test_resnot"},
            "mib",
            "recipe 'small': network.backbone: .*did you mean 'test_resnet",
        ),
        (
            {**TIMM, "backbone": "timm/swin_tiny_patch4_window7_224", "output_stride": 8},
            "mib",
            "write output_stride: 32",
        ),
        (
            {"name": "deeplabv3-ssul", "backbone": "timm/test_convnext", "output_stride": 32},
            "ssul",
            "'ssul' with recipe 'small': .*freezes the statistics of batch normalisation, and .* has none",
        ),
    ],
)
def test_a_backbone_that_cannot_be_is_refused_while_planning(network, method, expected):
    with pytest.raises(ConfigError, match=expected):
        plan({"methods": [method]}, recipe={**RECIPE, "network": network})


LISTS = {"lists": {"folder": "lists", "files": {"6-3": ["a.txt", "b.txt", "c.txt"], "6-6": ["a.txt", "d.txt"]}}}


def test_a_partition_reads_a_list_a_step_and_shares_equal_lists():
    found = plan({"settings": ["partition"], "scenarios": ["6-3", "6-6"]}, dataset=LISTS)
    assert [split.image_list.file for split in found.splits.values()] == ["a.txt", "b.txt", "c.txt", "d.txt"]
    assert len(trainings(found, "base")) == 1
    spec = found.runs[0].trainings[1].spec
    assert spec["setting"] == "partition" and spec["selection"] == "list b.txt"
    other = {"lists": {"folder": "lists", "files": {"6-3": ["e.txt", "b.txt", "c.txt"]}}}
    again = plan({"settings": ["partition"]}, dataset=other)
    assert trainings(again, "base") != trainings(found, "base"), "another list is another base step"


def test_published_lists_are_known_by_the_classes_of_their_steps():
    config = {
        "schema_version": 1,
        "datasets": {"ade": {"kind": "ade20k", "root": "nowhere", "lists": {"download": True}}},
        "recipes": {"small": RECIPE},
        "experiments": [
            {**EXPERIMENT, "dataset": "ade", "scenarios": ["100-50", "100-10b"], "settings": ["partition"]}
        ],
    }
    found = Plan(parse_config(config))
    assert [split.image_list.images for split in found.splits.values()][:3] == [13452, 6744, 10375]
    steps = [list(step) for step in found.runs[0].scenario.increments]
    config["experiments"][0]["scenarios"] = [{"name": "mine", "steps": [steps[0][::-1], steps[1]]}]
    mine = Plan(parse_config(config))
    assert [split.image_list.file for split in mine.splits.values()] == ["100-50/train-0.npy", "100-50/train-1.npy"]


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ({}, "'partition' needs image lists; give under datasets.toy.lists"),
        (
            {"lists": {"download": True}},
            "no list of images is published for '6-3' of 'toy' (semantic; published: none)",
        ),
        ({"lists": {"folder": "x", "files": {"6-3": ["a.txt"]}}}, "has 3 steps, but 1 lists are given"),
        ({"lists": {}}, "datasets.toy.lists: give either 'folder', where the lists are, or 'download: true'"),
    ],
)
def test_a_partition_without_lists_says_what_to_do(dataset, expected):
    with pytest.raises(ConfigError) as caught:
        plan({"settings": ["partition"]}, dataset=dataset)
    assert expected in str(caught.value)


def test_images_chosen_by_another_annotation_are_another_split_and_base_step():
    default, same, other = (plan({"task": "semantic", "images_by": by}) for by in (None, "semantic", "panoptic"))
    assert default.splits.keys() == same.splits.keys() and default.trainings.keys() == same.trainings.keys()
    assert not default.splits.keys() & other.splits.keys()
    assert trainings(default, "base") != trainings(other, "base")
    assert other.runs[0].trainings[0].spec["selection"] == "panoptic annotation"


def test_recipes_that_agree_about_the_base_step_share_it():
    later = {**RECIPE, "increment": {"iterations": 7}}
    wider = {**RECIPE, "evaluation_size": 32}
    config = {
        "schema_version": 1,
        "datasets": {"toy": {"kind": "shapes", "stuff": 6, "things": 6}},
        "recipes": {"small": RECIPE, "later": later, "wider": wider},
        "experiments": [{**EXPERIMENT, "recipe": recipe} for recipe in ("small", "later", "wider")],
    }
    found = Plan(parse_config(config))
    first = [run.trainings[0].directory for run in found.runs]
    assert first[0] == first[1] != first[2], "a base step is evaluated at one size"
    assert len(trainings(found, "runs")) == 3 * 2


def test_an_argument_that_later_steps_add_is_no_matter_of_the_base_step():
    recipe = {
        **RECIPE,
        "family": "mask",
        "network": {"name": "mask2former-eclipse"},
        "optimiser": {"name": "adamw", "learning_rate": 1e-4},
        "transform": {"name": "fixed-square", "size": 32},
    }
    few, many = (
        plan(
            {"task": "panoptic", "methods": ["eclipse"]},
            recipe={**recipe, "increment": {"iterations": 5, "network": {"prompts": prompts}}},
        )
        for prompts in (3, 4)
    )
    assert trainings(few, "base") == trainings(many, "base")
    steps = few.runs[0].trainings
    assert "prompts" not in steps[0].spec["recipe"]["network"] and "added_arguments" not in steps[0].spec["recipe"]
    assert steps[2].spec["recipe"]["network"]["prompts"] == 3
    with pytest.raises(ConfigError, match=r"'increment\.network' repeats 'name'"):
        plan({}, recipe={**RECIPE, "increment": {"iterations": 5, "network": {"name": "other"}}})


def test_ranks_are_compared_where_a_configuration_asks_for_it(tmp_path):
    content = {
        "schema_version": 1,
        "datasets": {"toy": {"kind": "shapes", "stuff": 6, "things": 6}},
        "recipes": {"small": RECIPE},
        "experiments": [{**EXPERIMENT, "methods": ["joint", "finetuning", "mib"], "seeds": [0, 1]}],
    }
    plain, ranked = Plan(parse_config(content)), Plan(parse_config({**content, "ranked_against": {"toy": "voc"}}))
    jobs = {job.name: job for job in plan_jobs(ranked, tmp_path)}
    assert {job.name for job in plan_jobs(plain, tmp_path)} == jobs.keys() - {AGREEMENT}
    assert len(jobs[AGREEMENT].inputs) == 1 + 2 * 3 * 2
    assert ranked.trainings.keys() == plain.trainings.keys()
    with pytest.raises(
        ConfigError, match="ranked_against: unknown dataset of an experiment 'toys'; did you mean 'toy'"
    ):
        Plan(parse_config({**content, "ranked_against": {"toys": "voc"}}))
