"""Phantoms: reproducible, with boxes that are exact and opacities that are no brighter than promised."""

from typing import get_args

import cv2
import numpy as np
import pytest

from siimdet.data.phantom import (
    BOX_LEVEL,
    CONTRAST,
    GRID,
    NOISE_SD,
    Kind,
    Opacity,
    Pattern,
    Phantom,
    Thorax,
    opacity_profile,
    profile_box,
    render,
    sample_finding,
    sample_opacities,
    sample_thorax,
    stretch,
)

PATTERNS: tuple[Pattern, ...] = ("typical", "indeterminate", "atypical")
SEEDS = range(12)


def drawn(seed: int, *, noise_sd: float = NOISE_SD, opacities: tuple[Opacity, ...] | None = None) -> Phantom:
    thorax = sample_thorax(np.random.default_rng(seed))
    if opacities is None:
        opacities = sample_opacities(np.random.default_rng(1000 + seed), PATTERNS[seed % 3], thorax)
    return render(np.random.default_rng(seed), thorax, opacities, noise_sd=noise_sd)


def lung_area(seed: int) -> np.ndarray:
    """Cells well inside a lung, by the ellipses of the thorax."""
    thorax = sample_thorax(np.random.default_rng(seed))
    y, x = ((np.arange(GRID) + 0.5) / GRID)[:, None], ((np.arange(GRID) + 0.5) / GRID)[None]
    v = (y - thorax.lung_y) / thorax.lung_half_height
    sides = [(x - thorax.centre - side * thorax.lung_offset) / thorax.lung_half_width for side in (-1, 1)]
    return np.minimum(*(u**2 + v**2 for u in sides)) < 0.7


def test_the_same_seed_draws_the_same_picture_and_another_another():
    first, again, other = drawn(3), drawn(3), drawn(4)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.image, other.image)
    assert first.image.shape == (GRID, GRID)
    assert first.image.dtype == np.float32
    assert 0 <= first.image.min() < first.image.max() <= 1


@pytest.mark.parametrize("kind", get_args(Kind))
def test_boxes_bound_the_cells_at_the_level_exactly(kind):
    for seed in range(4):
        thorax = sample_thorax(np.random.default_rng(seed))
        opacity = sample_finding(np.random.default_rng(seed + 50), kind, thorax)
        with_it, without = (
            render(np.random.default_rng(seed), thorax, given, noise_sd=0) for given in ((opacity,), ())
        )
        added = (with_it.image - without.image) / (opacity.contrast * NOISE_SD)
        inside = added >= BOX_LEVEL
        x1, y1, x2, y2 = (with_it.boxes[0] * GRID).astype(int)
        assert (with_it.boxes[0] * GRID == [x1, y1, x2, y2]).all()
        slack = 2e-3  # the picture holds 32-bit sums
        assert (added[y1:y2, x1] >= BOX_LEVEL - slack).any()
        assert (added[y1:y2, x2 - 1] >= BOX_LEVEL - slack).any()
        assert (added[y1, x1:x2] >= BOX_LEVEL - slack).any()
        assert (added[y2 - 1, x1:x2] >= BOX_LEVEL - slack).any()
        outside = inside.copy()
        outside[y1:y2, x1:x2] = False
        assert (added[outside] < BOX_LEVEL + slack).all()
        assert added.max() == pytest.approx(1, abs=1e-3)


def test_a_box_by_hand():
    profile = np.zeros((GRID, GRID), np.float32)
    profile[10:20, 30:50] = 0.37
    profile[100, 100] = 0.36  # below 1 / e = .3679
    assert (profile_box(profile) * GRID).tolist() == [30, 10, 50, 20]


def test_profiles_peak_at_one_and_keep_to_their_place():
    lungs = np.ones((GRID, GRID), np.float32)
    for kind in get_args(Kind):
        opacity = Opacity(kind, 0.4, 0.6, 0.08, 0.06, 2.0)
        profile = opacity_profile(np.random.default_rng(0), opacity, lungs)
        assert profile.max() == 1
        assert profile.min() >= 0
        x1, y1, x2, y2 = profile_box(profile)
        assert 0.3 < x1 < 0.4 < x2 < 0.5
        assert 0.5 < y1 < 0.6 < y2 < 0.7


def test_opacities_are_at_most_twice_as_strong_as_the_noise_around_them():
    ratios, strongest = [], 0.0
    for seed in SEEDS:
        noisy, clean, bare = drawn(seed), drawn(seed, noise_sd=0), drawn(seed, noise_sd=0, opacities=())
        noise_sd = float((noisy.image - clean.image)[lung_area(seed)].std())
        assert noise_sd == pytest.approx(NOISE_SD, rel=0.06)
        added = clean.image - bare.image
        strongest = max(strongest, float(added.max()))
        for x1, y1, x2, y2 in (clean.boxes * GRID).astype(int):
            ratios.append(float(added[y1:y2, x1:x2].mean()) / noise_sd)
    assert strongest <= 2 * NOISE_SD + 1e-6
    assert CONTRAST[1] <= 2
    assert 0.5 < min(ratios) < max(ratios) < 2


def test_stretched_to_a_radiograph_an_opacity_still_stays_below_twice_the_noise():
    for seed in SEEDS:
        noisy, clean, bare = drawn(seed), drawn(seed, noise_sd=0), drawn(seed, noise_sd=0, opacities=())
        width, height = 700, 620
        picture = stretch(np.random.default_rng(seed), noisy, width, height)
        plain, empty = (cv2.resize(p.image, (width, height), interpolation=cv2.INTER_LINEAR) for p in (clean, bare))
        for x1, y1, x2, y2 in (clean.boxes * [width, height, width, height]).astype(int):
            part = np.s_[y1:y2, x1:x2]
            assert (plain - empty)[part].max() <= 2 * (picture - plain)[part].std()


def test_ribs_vessels_and_heart_are_brighter_than_any_opacity():
    for seed in SEEDS:
        bare = drawn(seed, noise_sd=0, opacities=()).image[lung_area(seed)]
        assert np.quantile(bare, 0.99) - np.quantile(bare, 0.05) > 1.5 * CONTRAST[1] * NOISE_SD


def test_patterns_have_their_numbers_and_places():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        thorax = sample_thorax(rng)
        assert sample_opacities(rng, "negative", thorax) == ()
        left, right = sorted(sample_opacities(rng, "typical", thorax), key=lambda o: o.x)
        assert left.x < thorax.centre < right.x
        assert {left.kind, right.kind} == {"ground_glass"}
        (one,) = sample_opacities(rng, "indeterminate", thorax)
        assert one.kind == "ground_glass"
        assert one.y < thorax.lung_y
        (lobar,) = sample_opacities(rng, "atypical", thorax)
        assert lobar.kind in ("consolidation", "mass")
        assert all(CONTRAST[0] <= o.contrast <= CONTRAST[1] for o in (left, right, one, lobar))


def test_boxes_lie_inside_the_image_with_an_area_that_can_be_found():
    for seed in range(30):
        boxes = drawn(seed).boxes
        assert ((boxes >= 0) & (boxes <= 1)).all()
        assert ((boxes[:, 2:] - boxes[:, :2]) * GRID >= 8).all()


def test_the_heart_alone_decides_cardiomegaly():
    for seed in range(30):
        assert sample_thorax(np.random.default_rng(seed), cardiomegaly=True).enlarged
        assert not sample_thorax(np.random.default_rng(seed)).enlarged
    assert Thorax(0.5, 0.2, 0.15, 0.3, 0.45, 0.14).enlarged


def test_stretching_keeps_the_picture():
    phantom = drawn(0)
    wide = stretch(np.random.default_rng(0), phantom, 700, 300)
    assert wide.shape == (300, 700)
    assert wide.dtype == np.float32
    assert 0 <= wide.min() < wide.max() <= 1
    small = cv2.resize(wide, (64, 64), interpolation=cv2.INTER_AREA)
    assert (
        np.corrcoef(small.ravel(), cv2.resize(phantom.image, (64, 64), interpolation=cv2.INTER_AREA).ravel())[0, 1]
        > 0.99
    )
