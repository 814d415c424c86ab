"""Where models come from: names that lead nowhere fail at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from local_hub import Hub, local_hub

from sketchknitter import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.systems.sketchknitter import hub as hub_module
from sketchknitter.systems.sketchknitter.card import card
from sketchknitter.systems.sketchknitter.hub import SHIPPED, locate
from tiny_model import tiny


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


def test_a_name_server_that_is_silent_is_not_waited_for(
    no_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()

    class Silent:
        def head(self, address: str, timeout: float) -> None:
            gone.wait(20)  # as the look-up of an address does, which no timeout covers

    monkeypatch.setattr(huggingface_hub, "get_session", Silent)
    monkeypatch.setattr(hub_module, "_PATIENCE", 0.2)
    start = time.perf_counter()
    with pytest.raises(UserError, match="cannot be reached"):
        locate("owner/name")
    gone.set()
    assert time.perf_counter() - start < 10


def test_what_was_downloaded_before_is_found_without_a_network(
    no_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def download(name: str, file: str, **options: object) -> str:
        asked.update(options, name=name, file=file)
        return str(SHIPPED)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    model = SketchKnitter.from_pretrained("owner/name", revision="v1", token="secret")
    assert len(model.classes) == 337
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


# -- with a hub ------------------------------------------------------------------------------------
@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with local_hub() as running:
        files = running.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield running


def test_what_is_pushed_can_be_pulled(hub: Hub, tmp_path: Path) -> None:
    model = tiny()
    model.checkpoint.record["data_name"] = "my drawings"
    address = model.push_to_hub("owner/name", token="secret")
    assert address == f"{hub.endpoint}/owner/name"
    assert "Bearer secret" in hub.tokens
    assert set(hub.repos["owner/name"]) == {"model.safetensors", "README.md"}
    pulled = SketchKnitter.from_pretrained("owner/name")
    assert pulled.classes == model.classes
    assert pulled.sample(n=3, steps=2, seed=0) == model.sample(n=3, steps=2, seed=0)
    hub.shutdown()  # what was pulled stays
    hub.server_close()
    assert SketchKnitter.from_pretrained("owner/name").classes == model.classes


def test_a_card_is_made_and_one_that_is_there_stays(hub: Hub) -> None:
    model = tiny()
    model.push_to_hub("owner/name")
    text = hub.repos["owner/name"]["README.md"].decode()
    assert text == card(model.checkpoint, "owner/name")
    assert 'from_pretrained("owner/name")' in text
    hub.repos["owner/name"]["README.md"] = b"in my own words"
    model.checkpoint.record["updates"] = 7
    model.push_to_hub("owner/name")
    assert hub.repos["owner/name"]["README.md"] == b"in my own words"
    assert hub.commits["owner/name"] == 2


def test_a_card_says_how_the_model_was_made() -> None:
    model = tiny(classes=("cat", "<b>dog</b>", "a|b"))
    model.checkpoint.record.update(
        {
            "updates": 1200,
            "drawings": 40,
            "data_name": "mine\n# not a title",
            "losses": {"valid_loss": 0.25},
        }
    )
    text = card(model.checkpoint, "owner/my-model")
    assert "# my-model" in text
    assert "| updates | 1200 |" in text
    assert "| loss on held-out drawings | 0.25 |" in text
    assert "<b>" not in text
    assert "\n# not" not in text
    assert "a|b" not in text


def test_a_hub_that_refuses_is_quoted(hub: Hub) -> None:
    hub.refuse = "you may not write here"
    with pytest.raises(UserError, match=r"owner/name: the hub says: .*you may not write here"):
        tiny().push_to_hub("owner/name")


def test_a_model_that_the_hub_has_not(hub: Hub) -> None:
    with pytest.raises(UserError, match="the hub says"):
        SketchKnitter.from_pretrained("owner/other")
