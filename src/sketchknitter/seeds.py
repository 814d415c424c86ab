"""Random streams keyed by what they are for, so that nothing random needs to be stored."""

from __future__ import annotations

import logging
import secrets
from enum import IntEnum, unique

import numpy as np


@unique
class Stream(IntEnum):
    """What a random stream is for: every use of randomness in the package has a number of its own.

    The numbers are part of what a seed means. A new member takes a new number; one that is no
    longer used leaves a gap.
    """

    # drawing
    DRAWING = 1  # number of points and noise of one new drawing
    CLASS = 2  # order in which the classes take turns
    LENGTH = 3  # number of points, where it has a stream of its own
    CODE = 4  # latent code of one drawing
    ROW = 5  # points of one drawing, drawn one after the other
    MASK = 6  # parts of a drawing that an encoder does not see

    # training
    ORDER = 10  # of the examples of an epoch
    AUGMENTATION = 11
    CONDITION = 12  # which part of a training drawing is known, and how rough it is
    NOISE = 13  # that an objective adds
    LEVEL = 14  # noise levels of a batch
    LABEL_DROP = 15  # which drawings of a batch are trained without their label
    DROPOUT = 16
    SOFTNESS = 17  # of the pictures that a guide is trained on
    SHUFFLE = 18  # of points or strokes, of the paper's two shuffled models
    EXAMPLE = 19  # augmentation of a recognizer's examples
    TURN = 20  # of the recognizability network's examples
    GUIDANCE = 21  # guidance weights that a student learns
    RENOISE = 22  # of a student's drawings, when their distribution is matched
    LINES = 24  # drawings whose lines a refiner learns to clean, and how they are compared

    # measuring while training
    VALIDATION = 30  # drawings, and their noise, that a held-out loss is measured on
    PEN_CALIBRATION = 31  # drawings, and their noise, that the pen threshold is chosen on
    TEMPERATURE = 32  # drawings, and their codes, that a temperature is chosen on
    MIXTURE = 33  # drawings, and their codes, that a mixture of codes is fitted to
    ROUGH_VALIDATION = 34  # roughened drawings that a recognizer's weights are chosen by
    ROUGH_TEST = 35  # roughened drawings that a recognizer is tested on
    SCRIBBLE = 36  # drawings of nothing that the judge's weights are chosen by

    # the recognizability network's examples
    FORWARD = 40  # noised training drawings
    REVERSE = 41  # trajectories of sampling
    PHASE = 42  # where between two levels a trajectory is looked at
    OWN_DRAWING = 43  # the model's own drawings, noised where no training drawings are given
    CALIBRATION = 44  # trajectories that its score is calibrated on

    # editing
    GUESS = 50  # pilots that tell the classes of an unfinished drawing apart
    CHOICE = 51  # between candidates
    PLAN = 52  # size, place and number of points of what is missing
    INK = 53  # noise of one edited drawing
    ENDING_LABEL = 54  # classes of several endings

    # measuring
    PICK = 60  # drawings of a set, to be looked at
    SAMPLE = 61  # drawings of a set that are measured, and its halves
    LARGE_HALVES = 62  # halves of all held-out drawings
    KID_SUBSET = 63
    BOOTSTRAP = 64  # resampled drawings of an interval or a spread
    LANDMARK = 65  # of the Geometry Score

    # experiments
    REFERENCE = 70  # test drawings that a table measures against
    HALVES = 71  # of held-out drawings, for a floor
    FINISH = 72  # drawings whose points are shuffled and connected again
    SHOWN = 73  # drawings of a report's pictures
    DAMAGED = 74  # test drawings that the conditional protocols damage
    DEFORMATION = 75
    MASKING = 76
    PROBE = 77  # random drawings by which a change of code is noticed
    METRIC_PROBE = 78  # the same for metrics
    RANK = 79  # random orders that a table's order is compared with
    EVIDENCE = 80  # trajectories of ``explain``


def stream(seed: int, purpose: Stream, *key: int) -> np.random.Generator:
    """An independent random stream for (seed, purpose, key), by counter-based Philox.

    Args:
        seed: of the run; only its last 64 bits count.
        purpose: what the numbers are for.
        key: which of all such streams, such as an update and a drawing; each 0 … 2³² − 1. Keys of
            different length are different streams, also where they differ by zeros alone.

    Raises:
        ValueError: a key out of its range.
    """
    if any(not 0 <= k < 2**32 for k in key):  # larger ones count as two, and might be another key
        raise ValueError(f"a stream's key lies in 0 … 2**32 - 1, not {key}")
    # the spawn key, unlike entropy, is not padded with zeros
    words = np.random.SeedSequence(seed % 2**64, spawn_key=(purpose, *key))
    return np.random.Generator(np.random.Philox(words))


def derived_seed(seed: int, purpose: Stream, *key: int) -> int:
    """A seed, 0 … 2⁶³ − 1, for what takes one: PyTorch's own generator, a run within a run."""
    return int(stream(seed, purpose, *key).integers(2**63))


def taken_turn(seed: int, number: int, count: int) -> int:
    """Which of ``count`` classes drawing ``number`` of a mixed run shows.

    Every class once, in random order; then again, in another order.
    """
    return int(stream(seed, Stream.CLASS, number // count).permutation(count)[number % count])


def fresh_seed() -> int:
    """A seed that nobody chose, 0 … 2³² − 1, said by the logger ``sketchknitter``."""
    seed = secrets.randbelow(2**32)
    logging.getLogger("sketchknitter").warning("seed %d", seed)
    return seed
