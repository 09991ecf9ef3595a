"""The fully connected CRF against pydensecrf: the papers' parameters, 10 iterations, lattice construction included.

    python benchmarks/crf.py DIRECTORY_OF_PHOTOS [--photos 32] [--turns 3] [--large]

Photos are resized to 500 × 375. The unaries are those of the published model `voc` where it can be loaded (see
`atrous models`), else of 21 clusters of the photo's colours. --large measures sizes up to 4000 × 3000, each in a
process of its own, for its peak memory; it takes some minutes and 8 GB.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import atrous
from atrous.crf import CRFParams, mean_field, unary_from_probabilities
from atrous.data import find_images, read_image
from atrous.errors import AtrousError
from peers import import_peer
from record import record

Floats = NDArray[np.float32]
Photo = NDArray[np.uint8]

WIDTH, HEIGHT, LABELS, ITERATIONS, PRUNE = 500, 375, 21, 10, 0.01
SIZES = ((500, 375), (1000, 750), (2000, 1500), (4000, 3000))


def ours(unary: Floats, photo: Photo, prune: float = 0.0) -> Floats:
    return mean_field(unary, photo, CRFParams(), ITERATIONS, prune)


def theirs(unary: Floats, photo: Photo) -> Floats:
    import_peer("pydensecrf")
    densecrf = import_peer("pydensecrf.densecrf")
    params = CRFParams()
    height, width, _ = photo.shape
    crf = densecrf.DenseCRF2D(width, height, len(unary))
    crf.setUnaryEnergy(unary.reshape(len(unary), -1))
    crf.addPairwiseGaussian(sxy=params.gaussian_sxy, compat=params.gaussian_weight)
    crf.addPairwiseBilateral(
        sxy=params.bilateral_sxy, srgb=params.bilateral_srgb, rgbim=photo, compat=params.bilateral_weight
    )
    return np.array(crf.inference(ITERATIONS)).reshape(unary.shape)


def clusters(photo: Photo) -> Floats:
    """Probabilities by the distance to 21 colours."""
    colours = cv2.GaussianBlur(photo, (0, 0), 2).reshape(-1, 3).astype(np.float32)
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
    _, _, centres = cv2.kmeans(colours[::17].copy(), LABELS, None, stop, 1, cv2.KMEANS_PP_CENTERS)
    away = ((colours[:, None] - centres) ** 2).sum(-1) / 400
    return torch.from_numpy(-away).softmax(1).T.reshape(LABELS, *photo.shape[:2]).contiguous().numpy()


def scores() -> tuple[str, Callable[[Photo], Floats]]:
    """What makes probabilities of a photo, and its name."""
    try:
        predictor = atrous.load("voc", device="cpu")
    except AtrousError as error:
        print(f"colour clusters instead of the model voc ({error})", file=sys.stderr)
        return "colour clusters", clusters
    return "the model voc", lambda photo: predictor(photo, scores=True).scores()


def compare(photo: Photo, probabilities: Floats, turns: int) -> dict[str, Any]:
    unary = unary_from_probabilities(torch.from_numpy(probabilities)).numpy()
    calls = {
        "ours": lambda: ours(unary, photo),
        "ours_pruned": lambda: ours(unary, photo, PRUNE),
        "theirs": lambda: theirs(unary, photo),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    results = {}
    for _ in range(turns):
        for name, call in calls.items():
            begun = time.perf_counter()
            results[name] = call()
            times[name].append(time.perf_counter() - begun)
    labels = {name: result.argmax(0) for name, result in results.items()}
    return {
        **{f"{name}_s": statistics.median(kept) for name, kept in times.items()},
        "labels_kept": int((results["ours_pruned"] > 0).any((1, 2)).sum()),
        "agree": float((labels["ours"] == labels["theirs"]).mean()),
        "agree_pruned": float((labels["ours_pruned"] == labels["theirs"]).mean()),
        "changed_by_the_crf": float((labels["theirs"] != probabilities.argmax(0)).mean()),
    }


def summary(photos: list[dict[str, Any]]) -> dict[str, Any]:
    def median(key: str) -> float:
        return statistics.median(photo[key] for photo in photos)

    def faster(key: str) -> float:
        return round(statistics.median(photo["theirs_s"] / photo[key] for photo in photos), 2)

    return {
        "photos": len(photos),
        **{key: round(median(key), 4) for key in ("ours_s", "ours_pruned_s", "theirs_s")},
        "times_faster": faster("ours_s"),
        "times_faster_pruned": faster("ours_pruned_s"),
        "labels_kept_median": median("labels_kept"),
        "labels_agree": round(statistics.mean(photo["agree"] for photo in photos), 5),
        "labels_agree_pruned": round(statistics.mean(photo["agree_pruned"] for photo in photos), 5),
        "labels_agree_worst_photo": round(min(photo["agree"] for photo in photos), 5),
        "labels_agree_pruned_worst_photo": round(min(photo["agree_pruned"] for photo in photos), 5),
        "changed_by_the_crf": round(statistics.mean(photo["changed_by_the_crf"] for photo in photos), 5),
    }


def alone(kind: str, path: str, width: int, height: int) -> None:
    """One large photo in this process: prints the seconds, and the peak memory above what was there before in MB."""
    small = cv2.resize(read_image(path), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    run = theirs if kind == "theirs" else ours
    run(clusters(small)[:, :50, :50].copy(), small[:50, :50].copy())  # imports and compiles
    photo = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    unary = np.stack([cv2.resize(each, (width, height)) for each in -np.log(clusters(small) + 1e-9)])
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far (Linux)
    before = resident("VmRSS")
    begun = time.perf_counter()
    run(unary, photo)
    taken = time.perf_counter() - begun
    print(taken, resident("VmHWM") - before)


def resident(which: str) -> float:
    """This process's resident memory in MB: now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def large(path: Path) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    for width, height in SIZES:
        for kind in ("ours", "theirs"):
            command = [sys.executable, __file__, str(path), "--alone", kind, str(width), str(height)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, megabytes = map(float, done.stdout.split())
            measured[f"{kind} {width}×{height}"] = {
                "seconds": round(seconds, 2),
                "microseconds_a_pixel": round(seconds / width / height * 1e6, 3),
                "peak_MB": round(megabytes),
            }
            print(f"{kind} {width} × {height}: {seconds:.2f} s, {megabytes:.0f} MB")
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--photos", dest="count", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.alone:
        kind, width, height = arguments.alone
        alone(kind, arguments.photos, int(width), int(height))
        return
    paths = sorted(find_images([arguments.photos]))[: arguments.count]
    name, probabilities = scores()
    measured = []
    for index, path in enumerate(paths):
        photo = cv2.resize(read_image(path), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        found = probabilities(photo)
        if index == 0:
            compare(photo, found, 1)  # warm-up
        measured.append(compare(photo, found, arguments.turns))
        print(path.name, {key: round(value, 4) for key, value in measured[-1].items()}, flush=True)
    result = {
        "command": f"python benchmarks/crf.py DIR --photos {arguments.count} --turns {arguments.turns}",
        "unaries": name,
        "size": f"{WIDTH}×{HEIGHT}, {LABELS} labels, {ITERATIONS} iterations",
        "prune": PRUNE,
        **summary(measured),
    }
    if arguments.large:
        result["large, 21 labels, no pruning"] = large(paths[0])
    print(
        f"pydensecrf {result['theirs_s']:.3f} s; ours {result['ours_s']:.3f} s, {result['times_faster']} times faster, "
        f"{result['labels_agree']:.3%} of the labels; pruned {result['ours_pruned_s']:.3f} s, "
        f"{result['times_faster_pruned']} times faster, {result['labels_agree_pruned']:.3%}"
    )
    print(record("crf", result))


if __name__ == "__main__":
    main()
