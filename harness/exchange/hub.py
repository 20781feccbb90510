"""Uploads an exported folder to the Hugging Face hub, with the user's own token."""

from __future__ import annotations

from pathlib import Path

from harness.base.errors import UserError


def own_token() -> str:
    """The user's token: of HF_TOKEN, or of `hf auth login`.

    Raises:
        UserError: there is none.
    """
    from huggingface_hub import get_token

    if not (token := get_token()):
        raise UserError("--push needs a token of yours: set HF_TOKEN, or log in by `hf auth login`")
    return token


def push(path: Path, repo: str, token: str) -> str:
    """Uploads a folder or a file into a private repository, made where absent. Returns its URL.

    Raises:
        UserError: the hub refuses it; what was written here stays.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        url = str(api.create_repo(repo, private=True, exist_ok=True))
        if path.is_dir():
            api.upload_folder(repo_id=repo, folder_path=path)
        else:
            api.upload_file(repo_id=repo, path_or_fileobj=path, path_in_repo=path.name)
    except (HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the hub refuses {repo}: {reason}; {path} is written and stays") from None
    return url
