"""The options ``alembic -x NAME=VALUE`` of the command line."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from alembic import context

from alembic_online.errors import OnlineError
from alembic_online.options import is_plan, read_flag, read_request, read_seconds
from nexus_schema.errors import SchemaError


@dataclass(frozen=True, kw_only=True)
class Options:
    """The values of the ``-x`` options.

    ``schema``: the schema to work in. ``allow_data_loss``: a downgrade may destroy data.
    ``account_domains``: the account of each domain, or None for the built-in mapping of 005.
    ``lock_wait``: how many seconds to wait for another migration and, online, for a blocking session; None
    for no limit. ``online``: do not block reads and writes (:mod:`alembic_online`).
    """

    schema: str | None = None
    online: bool = False
    lock_wait: float | None = None
    allow_data_loss: bool = False
    account_domains: Mapping[str, str] | None = None

    @classmethod
    def current(cls) -> Self:
        """Read the options of the running Alembic command and the variable ACCOUNT_DOMAINS_FILE.

        Raises :class:`SchemaError` for an unknown name or an invalid value.
        """
        arguments = context.get_x_argument(as_dictionary=True)
        known = {"schema", "allow_data_loss", "account_domains", "lock_wait", "online"}
        for name, value in arguments.items():
            if name not in known:
                raise SchemaError(f"unknown option -x {name}; options are: {', '.join(sorted(known))}")
            if not value and name not in {"online", "allow_data_loss"}:
                raise SchemaError(f"option -x {name} needs a value: -x {name}=VALUE")
        try:
            asked = arguments.get("online", "false")
            online = is_plan(asked) or read_request("online", asked).online  # alembic_online does the rest
            allow_data_loss = read_flag("allow_data_loss", arguments.get("allow_data_loss", "false"))
            lock_wait = read_seconds("lock_wait", arguments.get("lock_wait"))
        except OnlineError as error:
            raise SchemaError(str(error)) from error
        file = arguments.get("account_domains") or os.environ.get("ACCOUNT_DOMAINS_FILE")
        return cls(
            schema=arguments.get("schema"),
            lock_wait=lock_wait,
            online=online,
            allow_data_loss=allow_data_loss,
            account_domains=read_account_domains(Path(file)) if file else None,
        )


def read_account_domains(path: Path) -> dict[str, str]:
    """Read the account of each domain from a TOML file: ``[accounts]`` with ``account = ["domain", ...]``.

    Raises :class:`SchemaError` when the file is missing or malformed, or a domain has two accounts.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SchemaError(f"cannot read the account domains file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SchemaError(f"the account domains file {path} is not TOML: {error}") from error
    accounts = document.get("accounts")
    if not isinstance(accounts, dict) or document.keys() != {"accounts"}:
        raise SchemaError(f"the account domains file {path} needs one table, [accounts], and nothing else")
    account_of: dict[str, str] = {}
    for account, domains in accounts.items():
        if not isinstance(domains, list) or not all(isinstance(domain, str) and domain for domain in domains):
            raise SchemaError(f'{path}: account "{account}" needs a list of domains: ["domain", ...]')
        if not 0 < len(account) <= 255:
            raise SchemaError(f'{path}: account "{account}" is empty or longer than 255 characters')
        for domain in domains:
            if account_of.setdefault(domain, account) != account:
                raise SchemaError(
                    f'{path}: domain "{domain}" is under two accounts, "{account_of[domain]}" and "{account}"'
                )
    return account_of
