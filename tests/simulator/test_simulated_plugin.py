"""The pytest plugin, through pytest itself."""

from __future__ import annotations

from importlib.metadata import entry_points

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
        httpx.get(qxt_gateway_url + "/surplus", timeout=60)
        assert len(qxt_gateway.requests) == 1
"""


def test_fixtures(pytester, monkeypatch):
    """The three fixtures work on asyncio and trio, each test with a gateway of its own."""
    pytester.makepyfile(ASYNCHRONOUS)
    # Whatever other plugins are installed would be loaded too, which takes many times as long.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # In a process of its own: run in this one, pytest would unload the modules that httpx compares its errors with.
    result = pytester.runpytest_subprocess("-p", "anyio", "-p", "qxt_async.simulator.plugin", "-W", "error")
    result.assert_outcomes(passed=5)


def test_installed_it_is_there():
    """The entry point names the plugin, so that pytest loads it without being asked to."""
    (entry,) = entry_points(group="pytest11", name="qxt_async")
    assert entry.value == "qxt_async.simulator.plugin"
