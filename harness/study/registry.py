"""run.json: which run a folder of the store is of, and the rows it began with. No torch."""

from __future__ import annotations

from harness.base.errors import UserError
from harness.base.files import read_json, write_json
from harness.spec import Run
from harness.spec.own_rows import LOADED, digests
from harness.study.store import Store

ROWS = "rows"  # in run.json, beside the run's fields


def is_registered(run: Run, store: Store) -> bool:
    """Whether run.json is there.

    Raises:
        UserError: it is that of another Run.
    """
    path, fields = store.run_json(run.id), run.canonical()
    if not path.exists():
        return False
    written = read_json(path)
    written.pop(ROWS, None)  # may change, where a person accepts it: see changed_rows()
    if written != fields:
        names = sorted(written.keys() | fields.keys())
        differ = ", ".join(name for name in names if written.get(name) != fields.get(name))
        raise UserError(
            f"{path} is another run than {run.id} (they differ in {differ}): move that folder away"
        )
    return True


def read_run(name: str, store: Store) -> Run:
    """The run of this id, by its run.json.

    Raises:
        UserError: it is damaged, or its fields are not known here.
    """
    fields = read_json(store.run_json(name))
    files = fields.pop(ROWS, {})
    if absent := [file for file in files if file not in LOADED]:
        raise UserError(f"{name} has rows of {', '.join(absent)}: name that file by --rows")
    return Run(**fields)


def register(run: Run, store: Store) -> None:
    """Writes run.json once: the run's fields, and digests of the files of rows it names."""
    if not is_registered(run, store):
        accept_rows(run, store)


def accept_rows(run: Run, store: Store) -> None:
    """Writes run.json with the digests of today's files of rows."""
    rows = {ROWS: found} if (found := digests(run)) else {}
    write_json(store.run_json(run.id), run.canonical() | rows)


def changed_rows(run: Run, store: Store) -> list[str]:
    """The files of rows that are not those the run began with."""
    now = digests(run)
    if not now or not is_registered(run, store):
        return []
    before = read_json(store.run_json(run.id)).get(ROWS, {})
    return [name for name in sorted(before | now) if before.get(name) != now.get(name)]
