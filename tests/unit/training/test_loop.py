import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from model.methods.base import ParameterGroup, Trainable
from model.scenario import Step
from model.training.loop import MAX_SKIPPED, TrainingError
from model.training.seeds import seed_everything
from model.training.step import frozen_copy


def network_of(small, **options):
    seed_everything(3)
    return small.Network([2], **options)


def flat(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_hooks_are_called_in_the_promised_order(small):
    method = small.Method()
    small.loop(network_of(small), method, iterations=2, accumulate=2)
    once = ["forward", "targets", "losses"] * 2 + ["after_backward", "after_update"]
    assert method.names[1:] == once * 2  # the first call is 'trainable'


def test_one_sgd_update_is_rate_times_gradient(small):
    network = network_of(small)
    expected = network_of(small)
    batch = next(small.stream())
    functional.cross_entropy(expected(batch.images).logits, batch.labels).backward()
    want = torch.cat([(p - 0.1 * p.grad).flatten() for p in expected.parameters()])
    small.loop(network, small.Method(), iterations=1)
    assert torch.allclose(flat(network), want.detach(), rtol=0, atol=1e-7)


def test_accumulation_equals_a_bigger_batch(small):
    big, halves = network_of(small).double(), network_of(small).double()

    def double(batches):
        return (replace(batch, images=batch.images.double()) for batch in batches)

    def cut(batches):
        for batch in batches:
            for part in (slice(0, 4), slice(4, 8)):
                yield replace(
                    batch,
                    images=batch.images[part],
                    labels=batch.labels[part],
                    names=batch.names[part],
                    from_memory=batch.from_memory[part],
                )

    for network in (big, halves):  # batch statistics are the one thing that a split batch cannot reproduce
        network.norm = torch.nn.Identity()
    whole = small.loop(big, small.Method(), batches=double(small.stream(8)))
    parts = small.loop(halves, small.Method(), batches=double(cut(small.stream(8))), accumulate=2)
    assert torch.allclose(flat(big), flat(halves), rtol=0, atol=1e-12)
    for (_, _, a), (_, _, b) in zip(whole.seen, parts.seen, strict=True):
        assert a["total"] == pytest.approx(b["total"], abs=1e-6)


def test_the_schedule_sets_the_rate_of_every_iteration(small):
    network, other = network_of(small), network_of(small)
    notes = small.loop(network, small.Method(), schedule=lambda i: [1.0, 0.5, 0.0][i])
    assert [rate for _, rate, _ in notes.seen] == [0.1, 0.05, 0.0]
    small.loop(other, small.Method(), iterations=2, schedule=lambda i: [1.0, 0.5][i])
    assert torch.equal(flat(network), flat(other))  # nothing moves at rate 0


def test_clipping_comes_after_the_hook_that_adds_penalties(small):
    class Penalised(small.Method):
        def after_backward(self, context):
            super().after_backward(context)
            for p in context.network.parameters():
                p.grad += 1000.0

    method, network = Penalised(), network_of(small)
    before = flat(network)
    small.loop(network, method, iterations=1, learning_rate=1.0, clip_norm=0.5)
    assert (flat(network) - before).norm() == pytest.approx(0.5, rel=1e-4)
    seen = torch.cat([g.flatten() for g in dict(method.calls)["after_backward"]])
    assert seen.norm() < 100  # the hook saw the gradient before clipping and before its own addition


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_hook_sees_gradients_of_natural_size_in_every_precision(small, precision):
    reference, method = small.Method(), small.Method()
    small.loop(network_of(small), reference, iterations=1)
    small.loop(network_of(small), method, iterations=1, precision=precision)
    for ours, exact in zip(dict(method.calls)["after_backward"], dict(reference.calls)["after_backward"], strict=True):
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, exact, atol=0.02)


def test_the_old_model_is_seen_without_gradient_and_stays_in_evaluation_mode(small):
    class Distilled(small.Method):
        def losses(self, context, batch, outputs, old_outputs, targets):
            terms = super().losses(context, batch, outputs, old_outputs, targets)
            return {**terms, "distillation": functional.mse_loss(outputs.logits, old_outputs.logits)}

    network = network_of(small, dropout=0.5)
    old = frozen_copy(network)
    before = {key: value.clone() for key, value in old.state_dict().items()}
    method = Distilled()
    small.loop(network, method, old_model=old)
    seen = [value for name, value in method.calls if name == "targets"]
    assert all(not outputs.logits.requires_grad and not outputs.training for outputs in seen)
    assert not any(p.requires_grad or p.grad is not None for p in old.parameters())
    assert all(torch.equal(before[key], value) for key, value in old.state_dict().items())
    assert not torch.equal(flat(network), flat(old))


def test_no_graph_is_built_through_the_old_model(small):
    method, network = small.Method(), network_of(small)
    small.loop(network, method, old_model=small.Network([2]))  # not frozen, on purpose
    assert not any(outputs.logits.requires_grad for name, outputs in method.calls if name == "targets")


def test_evaluation_modules_keep_their_statistics_and_all_others_train(small):
    network = network_of(small)
    network.eval()
    small.loop(network, small.Method(), evaluation_modules=[network.norm])
    assert network.training and not network.norm.training
    assert torch.equal(network.norm.running_mean, torch.zeros(4))

    other = network_of(small)
    small.loop(other, small.Method())
    assert not torch.equal(other.norm.running_mean, torch.zeros(4))


def test_parameters_outside_the_groups_do_not_move(small):
    class HeadOnly(small.Method):
        def trainable(self, network, step):
            return Trainable((ParameterGroup(tuple(network.cls.parameters())),))

    network = network_of(small)
    before = network.body.weight.clone(), network.cls[0].weight.clone()
    small.loop(network, HeadOnly())
    assert torch.equal(network.body.weight, before[0]) and network.body.weight.grad is None
    assert not torch.equal(network.cls[0].weight, before[1])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_non_finite_term_stops_with_everything_one_needs_to_find_it(small, accumulate):
    class Broken(small.Method):
        def losses(self, context, batch, outputs, old_outputs, targets):
            terms = super().losses(context, batch, outputs, old_outputs, targets)
            bad = "image12" in batch.names  # fourth batch of four
            return {**terms, "attraction": outputs.logits.mean() * (math.inf if bad else 1.0)}

    network = network_of(small)
    states = []
    with pytest.raises(TrainingError) as caught:
        small.loop(
            network,
            Broken(),
            iterations=9,
            accumulate=accumulate,
            after_iteration=lambda done, settle: states.append(flat(network)),
        )
    message = str(caught.value)
    assert f"step 0, iteration {4 // accumulate} of 9" in message
    assert "attraction = " in message and "inf" in message
    assert "images: image12, image13, image14, image15" in message
    assert "classification = " in message
    assert torch.equal(flat(network), states[-1])  # the bad update was not made


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_non_finite_gradient_of_a_finite_loss_stops(small, precision):
    class Broken(small.Method):
        def losses(self, context, batch, outputs, old_outputs, targets):
            zero = (outputs.logits.float() - outputs.logits.float().detach()).abs().sum()
            return {"root": zero.sqrt()}  # the value is 0, the derivative is not a number

    with pytest.raises(TrainingError, match=r"iteration 1 of 3.*gradient norm is (nan|inf).*image0"):
        small.loop(network_of(small), Broken(), precision=precision)


def test_fp16_skips_an_overflowing_update_and_goes_on(small):
    class Big(small.Method):
        def losses(self, context, batch, outputs, old_outputs, targets):
            terms = super().losses(context, batch, outputs, old_outputs, targets)
            return {name: value * 1e36 for name, value in terms.items()}  # times 2^16 is beyond float32

    network, method = network_of(small), Big()
    before = flat(network)
    notes = small.loop(network, method, precision="fp16", iterations=2)
    assert len(notes.seen) == 2
    assert torch.equal(flat(network), before)
    assert "after_backward" not in method.names  # statistics of gradients never see an overflow


def test_fp16_gives_up_when_nothing_helps(small):
    class Broken(small.Method):
        def losses(self, context, batch, outputs, old_outputs, targets):
            zero = (outputs.logits.float() - outputs.logits.float().detach()).abs().sum()
            return {"root": zero.sqrt()}

    with pytest.raises(TrainingError, match=f"iteration {MAX_SKIPPED} of 99.*fp16"):
        small.loop(network_of(small), Broken(), precision="fp16", iterations=99)


def test_terms_must_be_named_scalars(small):
    class Wrong(small.Method):
        def losses(self, context, batch, outputs, old_outputs, targets):
            return {"map": outputs.logits}

    class Empty(small.Method):
        def losses(self, context, batch, outputs, old_outputs, targets):
            return {}

    with pytest.raises(TrainingError, match="'map' must be a scalar"):
        small.loop(network_of(small), Wrong())
    with pytest.raises(TrainingError, match="Empty returned no loss term"):
        small.loop(network_of(small), Empty())


def test_batches_that_run_out_are_an_error(small):
    def three():
        batches = small.stream()
        return iter([next(batches) for _ in range(3)])

    with pytest.raises(TrainingError, match="ran out after 1 of 2"):
        small.loop(network_of(small), small.Method(), batches=three(), iterations=2, accumulate=2)


def test_the_reporter_hears_every_term_and_the_total(small):
    class Two(small.Method):
        def losses(self, context, batch, outputs, old_outputs, targets):
            terms = super().losses(context, batch, outputs, old_outputs, targets)
            return {**terms, "sparsity": outputs.logits.abs().mean()}

    notes = small.loop(network_of(small), Two(), step=Step(1, (1,), (2,)))
    assert [iteration for iteration, _, _ in notes.seen] == [1, 2, 3]
    for _, _, terms in notes.seen:
        assert list(terms) == ["classification", "sparsity", "total"]
        assert terms["total"] == pytest.approx(terms["classification"] + terms["sparsity"])
