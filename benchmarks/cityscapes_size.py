"""A photo of Cityscapes' size, 1025×2049, to its labels: Atrous against transformers on the same weights.

    python benchmarks/cityscapes_size.py [--engine auto]

Random weights in `MobileNetV2ForSemanticSegmentation` at output stride 16 with 19 classes. Theirs is what its
documentation shows: the image processor (here without resizing and cropping, which would change the photo), the model
in inference mode, and `post_process_semantic_segmentation` to the photo's size. Ours is `atrous.load` of the directory
that `save_pretrained` writes. Theirs upsamples without aligned corners, which the papers' code aligns: labels differ by
that at the borders of regions, of which random weights make many. So their logits are also compared with corners
aligned.
"""

import argparse
import tempfile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import atrous
from compare import by_turns, line
from peers import import_peer
from photo_to_labels import lively, photo
from record import record

SIZE = (1025, 2049)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    import_peer("torchvision")  # which transformers would import in its own way
    transformers = import_peer("transformers")
    config = transformers.MobileNetV2Config(output_stride=16, num_labels=19)
    network = transformers.MobileNetV2ForSemanticSegmentation(config)
    lively(network)
    processor = transformers.MobileNetV2ImageProcessor(do_resize=False, do_center_crop=False)
    image = photo(*SIZE)

    def theirs() -> NDArray[Any]:
        with torch.inference_mode():
            outputs = network(**processor(images=image, return_tensors="pt"))
        return processor.post_process_semantic_segmentation(outputs, target_sizes=[SIZE])[0].numpy()  # type: ignore[no-any-return]

    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        ours = atrous.load(folder, "cpu", engine=arguments.engine)

        def mine() -> NDArray[Any]:
            return ours(image).labels

        # Each ahead of its own: see `photo_to_labels`.
        measured: dict[str, Any] = by_turns(mine, theirs, arguments.turns, before=(mine, theirs))
        found = mine()
        same = float(np.mean(found == theirs()))
        with torch.inference_mode():
            logits = network(**processor(images=image, return_tensors="pt")).logits
            aligned = torch.nn.functional.interpolate(logits, SIZE, mode="bilinear", align_corners=True)[0].argmax(0)
        same_aligned = float(np.mean(found == aligned.numpy()))
    measured |= {
        "command": "python benchmarks/cityscapes_size.py",
        "engine": ours.engine,
        "same_labels": round(same, 4),
        "same_labels_with_aligned_corners": round(same_aligned, 4),
    }
    print(line(f"1025×2049 with {ours.engine}", measured, "transformers"), f"({same:.2%} the same labels,", end=" ")
    print(f"{same_aligned:.2%} where theirs are upsampled with aligned corners)")
    print(record("cityscapes_size", measured))


if __name__ == "__main__":
    main()
