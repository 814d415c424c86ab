"""Where a model comes from: the shipped weights, a file, a folder, the Hugging Face hub."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from threading import Thread

from sketchknitter.errors import UserError
from sketchknitter.files import MODEL, WEIGHTS

SHIPPED = WEIGHTS / "sketchknitter.safetensors"
CARD = "README.md"
_PATIENCE = 3.0  # seconds until a hub that does not answer counts as out of reach
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate(
    source: str | PathLike[str] | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Path:
    """The model file behind a name.

    Args:
        source: None or ``"shipped"`` for the shipped weights; a ``.safetensors`` file; a folder
            holding ``model.safetensors``; or a hub id ``owner/name``.
        revision: branch, tag or commit of a hub repository.
        token: for private repositories; None takes the one stored on this machine.

    Raises:
        UserError: nothing there. A hub that cannot be reached is asked once, not again and again.
    """
    if source is None or str(source) == "shipped":
        return SHIPPED
    path = Path(source)
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise UserError(f"{path}: a folder without {MODEL}; name a model file, or train one")
        return path / MODEL
    if path.exists() or path.suffix == ".safetensors":
        return path
    name = str(source)
    if isinstance(source, str) and _HUB_ID.fullmatch(name):
        return _from_hub(name, revision, token)
    raise UserError(f"{source}: no such file or folder")


def _from_hub(name: str, revision: str | None, token: str | bool | None) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    online = _reachable(constants.ENDPOINT)
    try:
        return Path(
            hf_hub_download(
                name, MODEL, revision=revision, token=token, local_files_only=not online
            )
        )
    except LocalEntryNotFoundError:
        raise UserError(
            f"{name}: no such file or folder here, and the hub ({constants.ENDPOINT}) cannot be"
            " reached; check the name, or the network"
        ) from None
    except Exception as error:  # its client raises errors of three libraries
        said = " ".join(str(error).split())
        raise UserError(f"{name}: no such file or folder here, and the hub says: {said}") from None


def _reachable(endpoint: str) -> bool:
    """Whether the hub answers within ``_PATIENCE``; its own client would try for half a minute.

    Asked in a thread, for no timeout of an HTTP client covers the look-up of the address, which
    takes ten seconds where no name server answers.
    """
    from huggingface_hub import get_session

    answered: list[bool] = []

    def ask() -> None:
        try:
            get_session().head(endpoint, timeout=_PATIENCE)
        except Exception:  # of whichever HTTP library the client uses
            return
        answered.append(True)

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return bool(answered)


def push(
    model: Path, card: str, name: str, *, private: bool, token: str | bool | None, message: str
) -> str:
    """Upload a model to the hub, making the repository where there is none; returns its address.

    Args:
        model: its file.
        card: for a repository that has no ``README.md`` yet.
        name: of the repository, ``owner/name``.
        private: whether a new one is.
        token: None takes the one stored on this machine.
        message: of the commit.

    Raises:
        UserError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    if not _HUB_ID.fullmatch(name):
        raise UserError(f"{name!r} is no hub id; it reads owner/name")
    if not _reachable(constants.ENDPOINT):
        raise UserError(f"the hub ({constants.ENDPOINT}) cannot be reached; check the network")
    api = HfApi(token=token)
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        files = [CommitOperationAdd(MODEL, model)]
        if not api.file_exists(name, CARD):
            files.append(CommitOperationAdd(CARD, card.encode()))
        api.create_commit(name, files, commit_message=message)
    except Exception as error:  # its client raises errors of three libraries
        said = " ".join(str(error).split())
        raise UserError(f"{name}: the hub says: {said}") from None
    return str(address)
