"""Predictors on the Hugging Face Hub, through huggingface_hub's mixin.

It is apart from `Predictor`, which makes it when it is asked for, because huggingface_hub takes a while to import.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelHubMixin, snapshot_download

from atrous.errors import AtrousError, WeightsError
from atrous.weights import ModelCard, save_model

if TYPE_CHECKING:
    from atrous.inference.predictor import Predictor

_OPTIONS = {"device", "engine", "revision", "token", "cache_dir", "force_download", "local_files_only"}
_FILES = ["config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin"]


class Published(ModelHubMixin, library_name="atrous"):
    """A predictor as a directory of `config.json`, `model.safetensors` and `README.md`."""

    def __init__(self, predictor: "Predictor") -> None:
        self.predictor = predictor

    def _save_pretrained(self, save_directory: Path) -> None:
        card = self.predictor.card
        save_model(self.predictor.model, card, save_directory)
        (save_directory / "README.md").write_text(_readme(card), encoding="utf-8")

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: str = "auto",
        engine: str = "torch",
        **_: Any,  # what the mixin read from config.json
    ) -> "Published":
        from atrous.inference.predictor import load

        directory = Path(model_id)
        if not directory.is_dir():
            directory = Path(
                snapshot_download(
                    model_id,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                    allow_patterns=_FILES,
                )
            )
        return cls(load(directory, device, engine=engine))


def from_hub(source: str | Path, **options: Any) -> "Predictor":
    """See `Predictor.from_pretrained`."""
    if unknown := sorted(options.keys() - _OPTIONS):
        raise AtrousError(f"from_pretrained has no option {unknown[0]!r}; it takes {', '.join(sorted(_OPTIONS))}")
    try:
        return Published.from_pretrained(source, **options).predictor
    except (OSError, ValueError) as error:  # what huggingface_hub raises derives from these
        reason = " ".join(str(error).split())
        raise WeightsError(f"{source}: neither a directory nor a model on the Hub ({reason})") from error


def _readme(card: ModelCard) -> str:
    """The Hub's model card."""
    head = {
        "library_name": "atrous",
        "pipeline_tag": "image-segmentation",
        "tags": ["deeplab", "semantic-segmentation"],
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", ""]
    lines += [card.description or "A DeepLab for semantic segmentation.", ""]
    lines += ["```python", "from atrous import Predictor", "", 'predictor = Predictor.from_pretrained("THIS/MODEL")']
    lines += ['predictor("photo.jpg").overlay().save("overlay.png")', "```", ""]
    lines += [f"Classes: {', '.join(card.classes)}.", ""]
    if card.licence:
        lines += [f"Licence: {card.licence}.", ""]
    if card.provenance:
        lines += ["```json", json.dumps(card.provenance, indent=1, ensure_ascii=False), "```", ""]
    return "\n".join(lines)
