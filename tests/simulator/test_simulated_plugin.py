"""The pytest plugin, through pytest itself."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

ASYNCHRONOUS = """
    import httpx
    import pytest

    @pytest.mark.anyio
    async def test_in_process(qxt_client, qxt_gateway):
        qxt_gateway.fail_next("refuse")
        sent = await qxt_client.send("13800138000", "hello")
        assert sent.mid == qxt_gateway.sends[0].mid
        assert qxt_gateway.times_taken("13800138000") == 1

    @pytest.mark.anyio
    async def test_entered(qxt_client, qxt_gateway):
        assert qxt_gateway.sends == ()
        async with qxt_client:
            assert (await qxt_client.balance()).sms == 10_000_000

    def test_on_a_socket(qxt_gateway, qxt_gateway_url):
        httpx.get(qxt_gateway_url + "/surplus")
        assert len(qxt_gateway.requests) == 1
"""


@pytest.mark.parametrize(
    "load", [["-p", "no:qxt_async", "-p", "qxt_async.simulator.plugin"], []], ids=["by name", "by entry point"]
)
def test_fixtures(pytester, load):
    """The three fixtures work on asyncio and trio, each test with a gateway of its own, warnings being errors."""
    pytester.makepyfile(ASYNCHRONOUS)
    result = pytester.runpytest_subprocess(*load, "-W", "error", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=5)


def test_fixtures_are_listed(pytester):
    """``pytest --fixtures`` says what they are."""
    result = pytester.runpytest_subprocess("--fixtures", "-q")
    result.stdout.fnmatch_lines(["*qxt_gateway*", "*simulated gateway*", "*qxt_client*", "*qxt_gateway_url*"])
