"""What importing the packages loads, and under which names the models can be imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from marks import quick

TESTS = Path(__file__).parents[1]


def run(code: str) -> str:
    """Run code in a new Python process."""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return result.stdout


@pytest.mark.parametrize(
    ("module", "unloaded"),
    [
        ("nexus_schema", {"alembic", "sqlalchemy", "psycopg", "models", "nexus_schema.models"}),
        ("nexus_schema.models", {"alembic", "models", "nexus_schema.upgrade", "nexus_schema.database"}),
    ],
)
def test_what_an_import_loads(module: str, unloaded: set[str]) -> None:
    loaded = set(run(f"import sys, {module}; print(*sys.modules)").split())
    assert module in loaded
    assert loaded & unloaded == set()


@pytest.mark.parametrize(
    "first",
    quick(["models", "models.base", "nexus_schema.models", "nexus_schema.models.api_request"]),
)
def test_both_names_of_the_models_are_one_package(first: str) -> None:
    code = f"""if True:
        import {first}
        import models.base, models.api_request
        import nexus_schema.models
        from models import ApiRequest
        assert models is nexus_schema.models and models.base is nexus_schema.models.base
        assert ApiRequest is models.api_request.ApiRequest is nexus_schema.models.ApiRequest
        print(ApiRequest.__module__)
    """
    assert run(code) == "nexus_schema.models.api_request\n"


def test_attributes() -> None:
    code = "import nexus_schema; print(hasattr(nexus_schema, 'nothing'), hasattr(nexus_schema, 'Outcome'))"
    assert run(code) == "False True\n"


@pytest.mark.thorough
def test_the_former_name_of_online_operations() -> None:
    """Revisions of other projects import it, and revisions do not change."""
    code = """if True:
        import warnings
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            from nexus_schema.online import RefusedError, is_online, passes
        import alembic_online
        assert RefusedError is alembic_online.RefusedError
        print(*[warning.message for warning in said])
    """
    assert "nexus_schema.online is alembic_online now" in run(code)


@pytest.mark.thorough
def test_the_former_name_of_autogenerate() -> None:
    """The env.py of another project imports it, and revisions use its operations."""
    code = """if True:
        import warnings
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            from nexus_schema.autogenerate import PLUGIN, Difference
        from alembic.operations import Operations
        assert hasattr(Operations, "create_view") and PLUGIN == "alembic_drift"
        print(*[warning.message for warning in said])
    """
    assert "nexus_schema.autogenerate is alembic_drift now" in run(code)


def imported(file: Path) -> set[str]:
    """Return the modules that a file imports, anywhere in it."""
    nodes = [*ast.walk(ast.parse(file.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_the_tests_of_a_plugin_are_independent_of_the_project() -> None:
    """Neither they nor their helpers import this project. import-linter checks the plugin itself."""
    files = [*(TESTS / "online").glob("*.py")]
    assert len(files) > 10
    for file in files:  # the loop appends the helpers
        names = imported(file)
        assert not [name for name in names if name.partition(".")[0] in {"nexus_schema", "models"}], file
        files += [own for name in names if (own := TESTS / f"{name}.py").exists() and own not in files]
    assert TESTS / "servers.py" in files
