from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import tumortrace
from tumortrace.config import TrainConfig, build_config
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.settings import from_dict, to_dict


def test_without_changes_the_defaults_hold() -> None:
    assert build_config({}) == TrainConfig()


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("epochs=20", lambda config: config.epochs == 20),
        ("model=unet-xs", lambda config: config.model == "unet-xs"),
        ('model="unet-xs"', lambda config: config.model == "unet-xs"),
        ("learning_rate=1", lambda config: config.learning_rate == 1.0),
        ("preprocessing.context=2", lambda config: config.preprocessing.context == 2),
        ("preprocessing.grid_px=[64, 96]", lambda config: config.preprocessing.grid_px == (64, 96)),
        ('preprocessing.channels=["flair"]', lambda config: config.preprocessing.channels == ("flair",)),
        ("postprocessing.fill_holes=false", lambda config: config.postprocessing.fill_holes is False),
        ("augmentation.flip=0", lambda config: config.augmentation.flip == 0),
        ('loss={"jaccard": 1}', lambda config: config.loss == {"jaccard": 1.0}),
    ],
)
def test_an_override_changes_one_setting(override: str, read: Any) -> None:
    config = build_config({}, [override])
    assert read(config)
    changed = to_dict(config)
    assert sum(changed[key] != value for key, value in to_dict(TrainConfig()).items()) == 1


def test_overrides_come_after_the_file_and_later_ones_after_earlier_ones() -> None:
    values = {"epochs": 5, "batch_size": 4, "preprocessing": {"context": 2}}
    config = build_config(values, ["epochs=6", "epochs=7", "preprocessing.fit=resize"])

    assert (config.epochs, config.batch_size) == (7, 4)
    assert (config.preprocessing.context, config.preprocessing.fit) == (2, "resize")
    assert config.preprocessing.channels == TrainConfig().preprocessing.channels


def test_a_loss_in_a_file_takes_the_place_of_the_default() -> None:
    assert build_config({"loss": {"jaccard": 2}}).loss == {"jaccard": 2.0}


def test_a_configuration_goes_through_json_unchanged() -> None:
    config = build_config({}, ["preprocessing.context=0", 'loss={"bce": 1}', "precision=bf16"])
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert build_config(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("epoch=20", "setting epoch does not exist; known here are model, "),
        ("preprocessing.contexts=2", r"setting preprocessing\.contexts does not exist"),
        ("augmentation.flip.much=1", r"flip"),
        ("epochs", "'epochs'; KEY=VALUE wanted"),
        ("epochs=many", r"TrainConfig\.epochs is 'many'; int wanted"),
        ("epochs=1.5", r"TrainConfig\.epochs is 1\.5; int wanted"),
        ("epochs=true", r"TrainConfig\.epochs"),
        ("epochs=0", "epochs is 0; 1 or more wanted"),
        ("learning_rate=NaN", "learning_rate is nan"),
        ("learning_rate=0", "learning_rate"),
        ("patience=-1", "patience"),
        ("tumour_share=1.5", "tumour_share is 1.5; 0 to 1 wanted"),
        ("optimizer=sgd", r"TrainConfig\.optimizer is 'sgd'; one of adam, adamw wanted"),
        ("precision=fp16", r"TrainConfig\.precision"),
        ("preprocessing=5", r"[Pp]reprocessing is 5; an object wanted"),
        ("preprocessing.grid_px=64", r"Preprocessing\.grid_px is 64; a list wanted"),
        ("loss.jaccard=1", r'loss is set as a whole: loss=\{"jaccard": 1\}\.$'),
    ],
)
def test_an_override_that_does_not_hold_is_refused(override: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        build_config({}, [override])


def test_an_unknown_key_in_a_file_is_refused() -> None:
    with pytest.raises(SpecError, match=r"setting augmentation\.blur does not exist; known here are flip, "):
        build_config({"augmentation": {"blur": 1}})


def test_a_file_that_is_no_object_is_refused() -> None:
    with pytest.raises(SpecError, match="a JSON object wanted"):
        build_config([1, 2])  # type: ignore[arg-type]


def test_the_readme_has_every_key_with_its_default() -> None:
    readme = (Path(tumortrace.__file__).parent / "README.md").read_text()
    rows = re.findall(r"^\| `([a-z_.]+)` \| `([^`]+)` \|", readme, re.MULTILINE)
    assert {key: json.loads(default) for key, default in rows} == flat(to_dict(TrainConfig()))
    assert len(rows) == len(flat(to_dict(TrainConfig())))


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Nested settings by their dotted keys, as `--set` takes them."""
    nested = {"preprocessing", "postprocessing", "augmentation"}
    inner = {f"{key}.{name}": value for key in nested for name, value in settings[key].items()}
    return inner | {key: value for key, value in settings.items() if key not in nested}
