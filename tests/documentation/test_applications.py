"""The Python examples of the README and of docs/applications.md run."""

from databases import Database, url_of
from pages import examples, page
from programs import python_program
from support import insert

# An example with a server is started and stopped as uvicorn would do it.
RUN = """if True:
    import asyncio, sys
    for number, code in enumerate({blocks!r}):
        print(f"example {{number}}:")
        names = {{"__name__": "__main__"}}
        exec(code, names)
        if "lifespan" in names:
            async def serve():
                async with names["lifespan"](names["app"]): pass
            asyncio.run(serve())
"""


def test_its_python_runs(head: Database) -> None:
    insert(head, "api_requests", model="m")
    blocks = examples(page("README.md"), "python") + examples(page("docs/applications.md"), "python")
    result = python_program("-c", RUN.format(blocks=blocks), url=url_of(head), METRICS_ENABLED="true")
    assert result.returncode == 0, result.stderr
    readme, query, asynchronous, start, metrics = result.stdout.split("example ")[1:]
    assert "at head\n[]" in readme
    assert "claude-1.msldev.io m 0 0" in query
    assert "[]" in asynchronous
    assert "outcome=<Outcome.AT_HEAD" in start
    assert "True" in metrics
    assert "[Metrics] write ok" in result.stderr
    assert head.execute("SELECT count(*) FROM conversation_metrics").fetchone() == (2,)
