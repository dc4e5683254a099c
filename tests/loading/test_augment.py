from itertools import cycle, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.augment import jittered, mirrored

from md2dist.benchmarks.kernels import KernelCounter
from md2dist.data.loading.augment import (
    AugmentationDraw,
    augment,
    draw_augmentation,
    no_augmentation,
)
from md2dist.data.loading.color_jitter import ColorJitter, jitter_color
from md2dist.errors import ShapeError
from md2dist.kernel_style import few_kernels_everywhere
from md2dist.records import Batch, FrameBatch

NAMES = ("brightness", "contrast", "saturation", "hue")
JITTER = ColorJitter(1.15, 0.83, 1.19, -0.07, ("hue", "contrast", "saturation", "brightness"))


def random_frames(num_samples: int = 3, num_views: int = 4, seed: int = 0) -> FrameBatch:
    generator = torch.Generator().manual_seed(seed)
    K = torch.tensor([[37.0, 0, 30.5], [0, 61.0, 16.2], [0, 0, 1]])
    T_stereo = torch.eye(4).repeat(num_samples, 1, 1)
    T_stereo[:, 0, 3] = -0.1
    return FrameBatch(
        frames=torch.randint(
            0, 256, (num_samples, num_views, 6, 8, 3), dtype=torch.uint8, generator=generator
        ),
        K=K.repeat(num_samples, 1, 1),
        T_stereo=T_stereo,
        sample_id=torch.arange(num_samples),
    )


def draw_of(*samples: tuple[bool, ColorJitter | None]) -> AugmentationDraw:
    is_flipped, jitters = zip(*samples, strict=True)
    return AugmentationDraw(is_flipped, jitters)


def all_images(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain and jittered frames, (B, 1+S, 3, H, W) each."""
    plain = torch.cat([batch.target[:, None], batch.sources], dim=1)
    return plain, torch.cat([batch.target_aug[:, None], batch.sources_aug], dim=1)


def test_augmentation_equals_its_slow_twin_frame_by_frame():
    frames = random_frames()
    other = ColorJitter(0.8, 1.2, 0.85, 0.1, ("contrast", "brightness", "hue", "saturation"))
    draw = draw_of((True, JITTER), (False, other), (True, None))
    plain, augmented = all_images(augment(frames, draw))
    for i, (is_flipped, jitter) in enumerate(zip(*draw, strict=True)):
        for view in range(4):
            expected = frames.frames[i, view].permute(2, 0, 1).double().cpu().numpy() / 255
            expected = mirrored(expected) if is_flipped else expected
            np.testing.assert_allclose(plain[i, view].cpu(), expected, rtol=0, atol=1e-7)
            if jitter:
                expected = jittered(expected, jitter._asdict(), jitter.order)
            np.testing.assert_allclose(augmented[i, view].cpu(), expected, rtol=0, atol=2e-6)


@given(
    st.permutations(NAMES),
    st.tuples(*[st.floats(0.8, 1.2)] * 3),
    st.floats(-0.1, 0.1),
    st.integers(0, 2**32 - 1),
)
def test_in_float64_the_colours_equal_the_twin_exactly_in_every_order(order, factors, hue, seed):
    jitter = ColorJitter(*factors, hue, tuple(order))
    # Few distinct levels, so that grey pixels, ties between channels, black and white occur.
    image = np.random.default_rng(seed).integers(0, 4, (3, 4, 5)) / 3
    expected = jittered(image, jitter._asdict(), jitter.order)
    np.testing.assert_allclose(
        jitter_color(torch.tensor(image), jitter).cpu(), expected, rtol=0, atol=1e-12
    )


def test_the_order_of_the_changes_matters():
    image = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(0))
    results = [jitter_color(image, JITTER._replace(order=order)) for order in permutations(NAMES)]
    distances = [(a - b).abs().max() for a in results for b in results if a is not b]
    assert min(distances) > 1e-7
    assert max(distances) > 1e-2


def test_a_jitter_of_ones_and_no_shift_changes_nothing():
    image = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    same = jitter_color(image, ColorJitter(1, 1, 1, 0, NAMES))
    torch.testing.assert_close(same, image, rtol=0, atol=1e-12)


def test_a_third_of_the_circle_turns_red_to_green_to_blue():
    red, green, blue = torch.eye(3)[:, :, None, None]
    turn = ColorJitter(1, 1, 1, 1 / 3, NAMES)
    torch.testing.assert_close(jitter_color(red, turn), green)
    torch.testing.assert_close(jitter_color(green, turn), blue)
    torch.testing.assert_close(jitter_color(blue, turn), red)


def test_contrast_mixes_with_the_mean_of_each_frame_alone():
    frames = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.8)])
    changed = jitter_color(frames, ColorJitter(1, 0.8, 1, 0, NAMES))
    torch.testing.assert_close(changed, frames)  # an even frame is its own mean


def test_every_frame_of_a_sample_receives_the_same_flip_and_colours():
    frames = random_frames(num_samples=8)
    same = frames._replace(frames=frames.frames[:, :1].repeat(1, 4, 1, 1, 1))
    draw = draw_augmentation(0, 0, range(8), use_flip=True, use_color_jitter=True)
    assert len(set(draw.is_flipped)) == 2
    assert None in draw.jitters
    for images in all_images(augment(same, draw)):
        assert torch.equal(images, images[:, :1].expand_as(images))


def test_without_jitter_the_networks_see_the_plain_images_bit_for_bit():
    plain, augmented = all_images(augment(random_frames(), draw_of(*[(True, None)] * 3)))
    assert torch.equal(plain, augmented)
    plain, augmented = all_images(
        augment(random_frames(), draw_of((True, None), (False, JITTER), (False, None)))
    )
    assert (plain == augmented).flatten(1).all(dim=1).tolist() == [True, False, True]


def test_flipping_twice_is_no_flip():
    frames = random_frames()
    flip, jitter = draw_of(*[(True, None)] * 3), draw_of(*[(False, JITTER)] * 3)
    once = augment(frames, flip, use_true_intrinsics=True)
    pixels = (torch.cat([once.target[:, None], once.sources], 1) * 255).round().byte()
    back = FrameBatch(pixels.movedim(2, -1), once.K, once.T_stereo, once.sample_id)
    twice = augment(back, flip, use_true_intrinsics=True)
    for found, expected in zip(twice, no_augmentation(frames), strict=True):
        torch.testing.assert_close(found, expected)
    # A flip and a jitter commute: no colour change depends on the position of a pixel.
    both = augment(frames, draw_of(*[(True, JITTER)] * 3))
    torch.testing.assert_close(both.target_aug, augment(frames, jitter).target_aug.flip(-1))


def test_a_flip_turns_the_stereo_translation_and_nothing_else():
    frames = random_frames()
    batch = augment(frames, draw_of((True, None), (False, None), (True, JITTER)))
    np.testing.assert_allclose(batch.T_stereo[:, 0, 3].cpu(), [0.1, -0.1, 0.1])
    expected = frames.T_stereo.clone()
    expected[:, 0, 3] = batch.T_stereo[:, 0, 3]
    assert torch.equal(batch.T_stereo, expected)
    assert torch.equal(batch.K, frames.K)
    assert torch.equal(batch.sample_id, frames.sample_id)


def test_a_flip_mirrors_a_true_principal_point():
    frames = random_frames()
    batch = augment(
        frames, draw_of((True, None), (False, None), (True, None)), use_true_intrinsics=True
    )
    np.testing.assert_allclose(batch.K[:, 0, 2].cpu(), [7 - 30.5, 30.5, 7 - 30.5])
    expected = frames.K.clone()
    expected[:, 0, 2] = batch.K[:, 0, 2]
    assert torch.equal(batch.K, expected)


def test_the_frames_that_came_in_stay_untouched():
    frames = random_frames()
    before = [field.clone() for field in frames]
    augment(frames, draw_of(*[(True, JITTER)] * 3), use_true_intrinsics=True)
    assert all(torch.equal(a, b) for a, b in zip(frames, before, strict=True))


def test_augmenting_never_asks_the_device_for_a_value():
    frames = FrameBatch(*(field.to("meta") for field in random_frames()))  # has no values to give
    batch = augment(frames, draw_of(*[(True, JITTER)] * 3), use_true_intrinsics=True)
    assert {field.device.type for field in batch} == {"meta"}


def test_images_are_contiguous_float32_in_the_unit_range():
    batch = augment(random_frames(), draw_of(*[(True, JITTER)] * 3))
    for images in (batch.target, batch.target_aug, batch.sources, batch.sources_aug):
        assert images.dtype == torch.float32
        assert 0 <= images.min() <= images.max() <= 1
    assert (batch.target.shape, batch.sources.shape) == ((3, 3, 6, 8), (3, 3, 3, 6, 8))
    assert batch.target[0].is_contiguous()


def test_a_sample_without_sources_is_possible():
    assert no_augmentation(random_frames(num_views=1)).sources.shape == (3, 0, 3, 6, 8)


def test_a_sample_draws_the_same_in_whatever_batch():
    def draws(*ids: int) -> dict[int, tuple[bool, ColorJitter | None]]:
        draw = draw_augmentation(5, 2, ids, use_flip=True, use_color_jitter=True)
        return dict(zip(ids, zip(*draw, strict=True), strict=True))

    together = draws(*range(20))
    assert {**draws(*range(19, 9, -1)), **draws(*range(10))} == together
    assert draws(7) == {7: together[7]}


def test_neither_switch_changes_the_draw_of_the_other():
    def draw(use_flip: bool, use_color_jitter: bool) -> AugmentationDraw:
        return draw_augmentation(
            0, 0, range(50), use_flip=use_flip, use_color_jitter=use_color_jitter
        )

    both = draw(True, True)
    assert draw(True, False) == (both.is_flipped, (None,) * 50)
    assert draw(False, True) == ((False,) * 50, both.jitters)


def test_seeds_epochs_and_samples_draw_differently():
    def jitters(seed: int, epoch: int) -> set[ColorJitter | None]:
        ids = range(100)
        return {*draw_augmentation(seed, epoch, ids, use_flip=True, use_color_jitter=True).jitters}

    sets = [jitters(seed, epoch) - {None} for seed in range(3) for epoch in range(3)]
    assert len(set.union(*sets)) == sum(map(len, sets)) > 9 * 35


def test_the_draws_are_distributed_as_published():
    draw = draw_augmentation(0, 0, range(4000), use_flip=True, use_color_jitter=True)
    drawn = [jitter for jitter in draw.jitters if jitter]
    four_sigma = 4 * 0.5 / np.sqrt(4000)
    assert np.mean(draw.is_flipped) == pytest.approx(0.5, abs=four_sigma)
    assert len(drawn) / 4000 == pytest.approx(0.5, abs=four_sigma)
    agree = [flip == bool(jitter) for flip, jitter in zip(*draw, strict=True)]
    assert np.mean(agree) == pytest.approx(0.5, abs=four_sigma)  # independent of each other
    for name, low, high in [*((name, 0.8, 1.2) for name in NAMES[:3]), ("hue", -0.1, 0.1)]:
        values = np.array([getattr(jitter, name) for jitter in drawn])
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        deviation = (high - low) / np.sqrt(12 * len(values))
        assert values.mean() == pytest.approx((low + high) / 2, abs=4 * deviation)
    orders = [jitter.order for jitter in drawn]
    assert set(orders) == set(permutations(NAMES))
    assert max(map(orders.count, set(orders))) < 2 * len(drawn) / 24


def test_the_draw_is_the_one_it_has_always_been():
    # Stored values: a resumed run sees the samples as it would have without the stop.
    draw = draw_augmentation(7, 3, [12, 5], use_flip=True, use_color_jitter=True)
    assert draw.is_flipped == (True, False)
    plain, jitter = draw.jitters
    assert plain is None
    assert jitter
    assert jitter[:4] == pytest.approx((0.962277095, 1.051587193, 1.130558044, 0.0865951907))
    assert jitter.order == ("hue", "brightness", "saturation", "contrast")


@pytest.mark.parametrize("shape", [(2, 4, 6, 8, 3), (3, 4, 6, 8, 4), (3, 6, 8, 3)])
def test_frames_that_do_not_fit_the_draw_are_refused(shape):
    frames = random_frames()._replace(frames=torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(ShapeError, match="frames has shape"):
        augment(frames, draw_of(*[(False, None)] * 3))


@pytest.mark.parametrize("num_samples", [2, 25])
def test_all_samples_at_once_look_as_one_by_one_in_as_many_kernels(num_samples):
    frames = random_frames(num_samples)
    orders = permutations(NAMES) if num_samples == 25 else [NAMES]
    kinds = cycle([JITTER, ColorJitter(0.8, 1.2, 0.85, 0.1, NAMES)])
    jitters = [None, *(next(kinds)._replace(order=tuple(order)) for order in orders)]
    draw = AugmentationDraw(tuple(i % 3 == 1 for i in range(num_samples)), tuple(jitters))
    expected = augment(frames, draw, use_true_intrinsics=True)
    with few_kernels_everywhere(), KernelCounter() as counter:
        batch = augment(frames, draw, use_true_intrinsics=True)
    assert counter.kernels.total() == 44
    assert not counter.host_waits
    for name, value in expected._asdict().items():
        tolerance = 2e-6 if name.endswith("_aug") else 0
        torch.testing.assert_close(getattr(batch, name), value, rtol=0, atol=tolerance)
    assert torch.equal(batch.target_aug[0], expected.target[0])  # without jitter, bit for bit
    assert 0 <= batch.sources_aug.min() <= batch.sources_aug.max() <= 1
