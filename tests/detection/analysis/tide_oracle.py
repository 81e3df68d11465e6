"""Sets for which tidecv 1.0.1 was asked, and its answers.

tidecv needs OpenCV and pandas of its own, so it is no part of the tests' environment. In one that has it,
`python tests/detection/analysis/tide_oracle.py` prints `ANSWERS`.
"""

from __future__ import annotations

import numpy as np

CLASSES = 3
NAMES = ("Loc", "Cls", "Dupe", "Bkg", "Both", "Miss")
# By seed: AP50, the gain by each of NAMES, FalsePos and FalseNeg, all in percent; and how often each of NAMES occurs.
ANSWERS: dict[int, tuple[list[float], list[int]]] = {
    0: (
        [15.698452899, 14.152272649, 6.440648224, 0.615245533, 3.927538219, 0.840497675, 10.062409523, 22.915408487,
         24.244875835],
        [27, 12, 12, 39, 11, 37],
    ),
    1: (
        [29.397174218, 11.133151636, 5.375036647, 0.654826844, 5.463190159, 0.680651283, 13.112162833, 18.787644264,
         31.751296673],
        [22, 13, 13, 37, 11, 25],
    ),
    2: (
        [19.5368536, 6.287981946, 7.57171715, 0.964784179, 6.010498318, 2.22237797, 13.079760012, 23.037403826,
         24.562489074],
        [20, 11, 16, 35, 11, 34],
    ),
    3: (
        [16.431003335, 11.798065986, 3.728200043, 1.051850021, 6.300331528, 0.69942818, 11.444016476, 26.143254091,
         21.037240645],
        [27, 10, 10, 39, 10, 37],
    ),
}  # fmt: skip


def scattered_set(seed, images=30):
    """Objects, and detections that hit, miss, double and confuse them; no score comes twice, and there is no crowd.

    Returns:
        Rows of image, class, x, y, w, h for the objects, and the same with a score for the detections.
    """
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for image in range(1, images + 1):
        count = int(rng.integers(0, 6))
        boxes = np.concatenate([rng.uniform(0, 150, (count, 2)), rng.uniform(20, 80, (count, 2))], axis=1)
        classes = rng.integers(0, CLASSES, count)
        truths += [(image, int(k), *map(float, box)) for k, box in zip(classes, boxes, strict=True)]
        if rng.random() < 0.15:
            continue
        for k, box in zip(classes, boxes, strict=True):
            for _ in range(int(rng.choice([0, 1, 1, 2, 3]))):
                moved = box + rng.normal(0, rng.choice([1, 6, 18]), 4)
                moved[2:] = np.maximum(moved[2:], 4)
                label = int(k) if rng.random() < 0.75 else int(rng.integers(0, CLASSES))
                found.append((image, label, *map(float, moved), float(rng.random())))
        for _ in range(int(rng.integers(0, 4))):
            box = [*rng.uniform(0, 200, 2), *rng.uniform(10, 60, 2)]
            found.append((image, int(rng.integers(0, CLASSES)), *map(float, box), float(rng.random())))
    return truths, found


def ask(seed):
    """The answers of tidecv for a set."""
    from tidecv import TIDE, Data

    truths, found = scattered_set(seed)
    true_data, found_data = Data("true"), Data("found")
    for image, label, *box in truths:
        true_data.add_image(image, str(image))
        true_data.add_ground_truth(image, label, box)
    for image, label, *box, score in found:
        true_data.add_image(image, str(image))
        found_data.add_detection(image, label, score, box)
    tide = TIDE()
    run = tide.evaluate(true_data, found_data, name="set")
    gains, special = tide.get_main_errors()["set"], tide.get_special_errors()["set"]
    numbers = [run.ap, *(gains[name] for name in NAMES), special["FalsePos"], special["FalseNeg"]]
    counts = {kind.short_name: number for kind, number in run.count_errors().items()}
    return [round(float(number), 9) for number in numbers], [counts[name] for name in NAMES]


if __name__ == "__main__":
    for number in range(4):
        print(f"    {number}: {ask(number)},")
