"""The operator's mapping of domains to accounts."""

from pathlib import Path

import pytest

from nexus_schema.errors import SchemaError
from nexus_schema.options import read_account_domains


def test_it_maps_each_domain_to_its_account(tmp_path: Path) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text(
        '[accounts]\none = ["a.example", "b.example", "b.example"]\n"two 2" = ["c.example:8080"]\n'
    )
    assert read_account_domains(file) == {"a.example": "one", "b.example": "one", "c.example:8080": "two 2"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot read"),
        (b"[accounts", "not TOML"),
        (b"\xff", "not TOML"),
        (b"", "needs one table"),
        (b"accounts = 5", "needs one table"),
        (b"[accounts]\none = []\n[other]", "needs one table"),
        (b"[accounts]\none = 'a'", "needs a list"),
        (b"[accounts]\none = [5]", "needs a list"),
        (b"[accounts]\none = ['']", "needs a list"),
        (b"[accounts]\n'' = ['a']", "empty or longer"),
        (b"[accounts]\n" + b"x" * 256 + b" = ['a']", "empty or longer"),
        (b"[accounts]\none = ['a']\ntwo = ['a']", 'domain "a" is under two accounts, "one" and "two"'),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "accounts.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SchemaError, match=reason) as caught:
        read_account_domains(file)
    assert str(file) in str(caught.value)
