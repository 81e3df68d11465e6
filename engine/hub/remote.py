"""What is asked of a model hub: a network's files, and to keep a network's files.

The hub is the one that `huggingface_hub` is set up for: its own variables `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and
`HF_HUB_OFFLINE` work as its documentation says. Only named files are ever fetched and sent, and none that is a pickle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from engine.errors import InputError
from engine.exports.extras import needed
from engine.hub.addresses import HubAddress
from engine.hub.folder import CONFIG, LARGEST_CONFIG, WEIGHTS

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

# Python's pickle under the names that networks are saved by; reading one can run any code.
_LONGEST_REASON = 300  # letters of what the library says
PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})


def fetched(address: HubAddress) -> Path:
    """The folder with the files of a repository that describe and hold a network; each is fetched once.

    Raises:
        InputError: there is no such repository, the hub does not answer, or the repository has no safetensors or has a
            pickle beside them.
    """
    needed("huggingface_hub", extra="hub")
    from huggingface_hub import HfApi, constants, hf_hub_download

    with _explained(address):
        if not constants.HF_HUB_OFFLINE:
            info = HfApi().model_info(address.repo_id, revision=address.revision, files_metadata=True)
            _check_files(address, info.siblings or [])
        places = [hf_hub_download(address.repo_id, name, revision=address.revision) for name in (CONFIG, WEIGHTS)]
    folders = {Path(place).parent for place in places}  # one for each commit
    if len(folders) > 1:
        msg = f"{address} was changed while it was fetched. Load it again."
        raise InputError(msg)
    return folders.pop()


def pushed(address: HubAddress, folder: Path, names: Sequence[str], *, private: bool) -> str:
    """Send files of a folder to a repository, which is made if there is none, as one commit.

    Args:
        address: the repository; its revision is the branch to commit to.
        folder: where the files are.
        names: the files.
        private: whether a repository that is made can be seen by its owner only.

    Returns:
        The address of the commit.

    Raises:
        InputError: the hub refuses or does not answer, or the repository has a pickle, for which others would refuse
            it.
    """
    needed("huggingface_hub", extra="hub")
    from huggingface_hub import CommitOperationAdd, HfApi

    hub = HfApi()
    with _explained(address):
        hub.create_repo(address.repo_id, private=private, exist_ok=True)
        known = hub.model_info(address.repo_id).siblings or []
        if pickles := _pickles(known):
            msg = f"{address} has '{pickles[0]}', a pickle, for which others refuse it. Delete it there, then share."
            raise InputError(msg)
        operations = [CommitOperationAdd(name, str(folder / name)) for name in names]
        commit = hub.create_commit(
            address.repo_id, operations, commit_message="Share a network", revision=address.revision
        )
    return str(commit.commit_url)


def _pickles(files: Sequence[RepoSibling]) -> list[str]:
    names = [file.rfilename for file in files]
    return [name for name in names if PurePosixPath(name.lower()).suffix in PICKLES]


def _check_files(address: HubAddress, files: Sequence[RepoSibling]) -> None:
    sizes = {file.rfilename: file.size for file in files}
    if pickles := _pickles(files):
        msg = (
            f"{address} has '{pickles[0]}', a pickle, which could run code when it is read, so the repository is "
            "refused. Give a repository that holds safetensors alone."
        )
        raise InputError(msg)
    if missing := [name for name in (WEIGHTS, CONFIG) if name not in sizes]:
        msg = f"{address} has no {missing[0]}. Give a repository that push_to_hub filled."
        raise InputError(msg)
    if (sizes[CONFIG] or 0) > LARGEST_CONFIG:
        msg = f"{address} has a {CONFIG} of {sizes[CONFIG]:,} bytes; allowed are {LARGEST_CONFIG:,}. Give another one."
        raise InputError(msg)


@contextmanager
def _explained(address: HubAddress) -> Iterator[None]:
    """Say in one line what the hub's library reports in many."""
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.GatedRepoError as error:
        msg = f"{address} is for those whom its owner lets in. Run `hf auth login` after you were let in."
        raise InputError(msg) from error
    except errors.RepositoryNotFoundError as error:
        where = constants.ENDPOINT
        msg = f"there is no {address} on {where}, or it is private. Check its name, or run `hf auth login`."
        raise InputError(msg) from error
    except errors.RevisionNotFoundError as error:
        msg = f"{address} has no such revision. Give one of its branches, tags or commits, or leave @… out."
        raise InputError(msg) from error
    except errors.HfHubHTTPError as error:
        status, said = error.response.status_code, (error.server_message or "").strip()
        if status in (401, 403):
            where = constants.ENDPOINT
            msg = (
                f"{where} does not allow this for {address} (status {status}). Run `hf auth login`, or check its name."
            )
            raise InputError(msg) from error
        said = f", {said}" if said else ""
        msg = f"{constants.ENDPOINT} refuses {address}: status {status}{said}. Check its name, or start again later."
        raise InputError(msg) from error
    except (_client_error(), OSError, ValueError) as error:
        if constants.HF_HUB_OFFLINE:
            msg = f"{address} is not on this machine, and HF_HUB_OFFLINE is set. Load it once without the variable."
            raise InputError(msg) from error
        reason = " ".join(str(error).split())[:_LONGEST_REASON].removesuffix(".") or type(error).__name__
        msg = f"{constants.ENDPOINT} failed with {address}: {reason}. Check the connection and what was given."
        raise InputError(msg) from error


def _client_error() -> type[Exception]:
    """What the library's HTTP client raises where it reaches nobody; the client differs between its releases."""
    from huggingface_hub import errors

    base = errors.HfHubHTTPError.__bases__[0]
    assert issubclass(base, Exception)
    return base
