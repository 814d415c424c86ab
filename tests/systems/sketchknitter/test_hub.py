"""Where models come from: names that lead nowhere fail at once."""

from __future__ import annotations

import time
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from sketchknitter import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.systems.sketchknitter.hub import SHIPPED, locate


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub at a port where nobody listens, and an empty cache."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_names_of_what_is_here(tmp_path: Path) -> None:
    assert locate() == locate(None) == locate("shipped") == SHIPPED
    (tmp_path / "model.safetensors").touch()
    assert locate(tmp_path) == tmp_path / "model.safetensors"
    assert locate(str(tmp_path / "other.safetensors")) == tmp_path / "other.safetensors"


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "owner/na me", "./x/y", Path("owner/name")])
def test_what_cannot_be_a_hub_id_is_not_looked_up(name: str, no_hub: None) -> None:
    with pytest.raises(UserError, match=r"no such file or folder$"):
        locate(name)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a folder without model\.safetensors"):
        locate(tmp_path)


def test_an_id_fails_at_once_without_a_network(no_hub: None) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=r"owner/name: no such file .* cannot be reached"):
        SketchKnitter.from_pretrained("owner/name")
    assert time.monotonic() - start < 10  # the hub's own client tries for half a minute


def test_what_was_downloaded_before_is_found_without_a_network(
    no_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def download(name: str, file: str, **options: object) -> str:
        asked.update(options, name=name, file=file)
        return str(SHIPPED)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    model = SketchKnitter.from_pretrained("owner/name", revision="v1", token="secret")
    assert len(model.classes) == 31
    assert asked == {
        "name": "owner/name",
        "file": "model.safetensors",
        "revision": "v1",
        "token": "secret",
        "local_files_only": True,
    }


def test_pushing_says_when_it_cannot(no_hub: None) -> None:
    model = SketchKnitter.from_pretrained()
    with pytest.raises(UserError, match="cannot be reached"):
        model.push_to_hub("owner/name")
    with pytest.raises(UserError, match="'name' is no hub id"):
        model.push_to_hub("name")
