"""Every public name as a user would write it, for the type checkers; nothing here is run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal, assert_type

import httpx

import qxt_async as qxt
from qxt_async import campaign, protocol, transports
from qxt_async.journal import Journal, SendRecord, SendState


def numbers() -> Iterator[str]:
    """A generator."""
    yield "13800138000"


async def stream() -> AsyncIterator[str]:
    """An async generator."""
    yield "13800138000"


async def sending(client: qxt.QxtClient) -> None:
    """One request."""
    sent = await client.send("13800138000", "【Acme】…")
    assert_type(sent, qxt.SentBatch)
    assert_type(sent.mid, str)
    assert_type(sent.mids, tuple[str, ...])
    assert_type(sent.accepted, tuple[str, ...])
    assert_type(sent.failed, tuple[str, ...])
    assert_type(sent.unknown, tuple[str, ...])
    assert_type(sent.acceptances, tuple[qxt.Acceptance, ...])
    assert_type(sent.error, qxt.QxtError | None)
    assert_type(sent.invalid, tuple[qxt.InvalidNumber, ...])
    await client.send(
        numbers(),
        "【Acme】…",
        extno="1",
        addseqno=True,
        suppressed={"13800138001"},
        substitute=True,
        check_balance=True,
        method="GET",
        timeout=5,
        retry=qxt.NO_RETRIES,
        on_result=print,
    )


async def bulk(client: qxt.QxtClient) -> None:
    """Any number of requests."""
    result = await client.send_bulk(stream(), "【Acme】…", batch_size=500, keep_invalid=True, on_progress=show)
    assert_type(result, qxt.BulkResult)
    assert_type(result.batches, tuple[qxt.BatchResult, ...])
    assert_type(result.batches[0].mid, str | None)
    assert_type(result.accepted, qxt.Numbers)
    assert_type(list(result.unknown), list[str])
    assert_type(result.unsent, tuple[str, ...])
    result.raise_for_failures()
    await client.send_bulk(["13800138000"], "【Acme】…", check_balance=True, extno="1", deduplicate=False, min_batch=1)

    async with client.stream_bulk(numbers(), "【Acme】…", suppressed=frozenset[str]()) as batches:
        assert_type(batches, qxt.BulkStream)
        async for batch in batches:
            assert_type(batch, qxt.BatchResult)
    assert_type(batches.unsent, tuple[str, ...])
    assert_type(batches.unconsumed, tuple[qxt.BatchResult, ...])
    assert_type(batches.number_filter.invalid_count, int)


def show(progress: qxt.Progress) -> None:
    """A callback."""
    assert_type(progress.accepted, int)
    assert_type(progress.batch, qxt.BatchResult)


async def making() -> None:
    """Clients."""
    async with qxt.QxtClient("user", "password", base_url="http://127.0.0.1/qxt") as client:
        assert_type(client, qxt.QxtClient)
        balance = await client.balance(timeout=3.0)
        assert_type(balance, qxt.Balance)
        assert_type(balance.sms, int)
        assert_type(balance.mms, int)
    qxt.QxtClient(
        "user",
        password_md5="0" * 32,
        base_url="http://127.0.0.1/qxt",
        method="GET",
        max_concurrency=16,
        max_rate=1000,
        max_request_rate=10,
        timeout=20,
        connect_timeout=5,
        retry=qxt.RetryPolicy(3, backoff=1, max_backoff=10, retry_failed=True, retry_unknown_may_send_twice=False),
        channel_digits=4,
        number_pattern=protocol.MOBILE_PATTERN,
        trust_env=True,
        reuse_connections=False,
        transport="aiohttp",
    )
    assert_type(qxt.QxtClient.from_env(timeout=3), qxt.QxtClient)
    qxt.QxtClient.from_env(environ={"QXT_USER": "user"})
    for transport in (httpx.ASGITransport(app), Own()):
        qxt.QxtClient("user", "password", base_url="http://127.0.0.1/qxt", transport=transport)
    client = qxt.QxtClient("user", "password", base_url="http://127.0.0.1/qxt", http_client=httpx.AsyncClient())
    assert_type(client.with_options(method="GET", timeout=3, retry=qxt.NO_RETRIES), qxt.QxtClient)


async def app(scope: object, receive: object, send: object) -> None:
    """An ASGI application."""


class Own:
    """A transport of one's own."""

    async def exchange(self, exchange: transports.Exchange) -> None:
        """Send once."""
        assert_type(exchange.pull(), bytes)
        assert_type(exchange.method, Literal["POST", "GET"])

    async def aclose(self) -> None:
        """Close."""


own: transports.Transport = Own()


def reports(report: qxt.StatusReport, reply: qxt.Reply) -> None:
    """What comes back."""
    assert_type(report.state, qxt.DeliveryState)
    assert_type(reply.extno, str | None)


def preparing() -> None:
    """Numbers and protocol."""
    assert_type(protocol.normalize("+86 138 0013 8000"), str)
    assert_type(protocol.canonical("+86 138 0013 8000"), str)
    assert_type(protocol.mask("13800138000"), str)
    assert_type(protocol.deduplicate(numbers()), list[str])
    assert_type(protocol.segments("…", addseqno=True), int)
    assert_type(protocol.encode(protocol.substitute("€")), bytes)
    assert_type(protocol.bad_characters("€"), tuple[protocol.BadCharacter, ...])


async def failing(client: qxt.QxtClient) -> None:  # noqa: C901
    """Errors, and what they say."""
    try:
        await client.send_bulk(numbers(), "【Acme】…")
    except qxt.InvalidTextError as error:
        assert_type(error.characters, tuple[protocol.BadCharacter, ...])
    except (qxt.InvalidNumberError, qxt.NoValidNumberError, qxt.InvalidExtnoError):
        pass
    except qxt.RequestTooLargeError as error:
        assert_type((error.size, error.limit, error.fits), tuple[int, int, int])
    except (qxt.SourceFileError, qxt.InvalidConfigurationError):
        pass
    except qxt.ClientStateError as error:
        assert_type((isinstance(error, RuntimeError), isinstance(error, ValueError)), tuple[bool, bool])
    except qxt.IdempotencyKeyReusedError as error:
        assert_type(error.key, str)
    except qxt.InvalidRequestError as error:
        assert_type(error.result, qxt.BatchResult | qxt.BulkResult | None)
    except qxt.SendInProgressError as error:
        assert_type(error.key, str)
    except qxt.NumberLimitedError as error:
        assert_type((error.masked_number, error.retry_after), tuple[str, float])
    except qxt.InsufficientBalanceError as error:
        assert_type((error.needed, error.available), tuple[int, int])
    except qxt.SubmitFailedError as error:
        assert_type(error.codes, tuple[str, ...])
    except (qxt.AuthenticationError, qxt.AccountRefusedError, qxt.RefusedError) as error:
        assert_type((error.code, error.description, error.advice), tuple[str, str, str])
        assert_type(error.status, int | None)
    except qxt.ThrottledError as error:
        assert_type(error.retry_after, float | None)
    except qxt.NotSentError as error:
        assert_type(error.reason, str)
    except (qxt.DeadlineExceededError, qxt.ConnectionBrokenError):
        pass
    except qxt.UnexpectedStatusError as error:
        assert_type(error.status, int)
    except qxt.UnusableAnswerError as error:
        assert_type(error.answer, str)
    except qxt.PartialAnswerError as error:
        assert_type(error.count, int)
    except qxt.OutcomeUnknownError as error:
        assert_type(error.reason, str)
    except qxt.BulkFailedError as error:
        assert_type((error.failed, error.unknown), tuple[int, int])
    except qxt.BulkStoppedError as error:
        assert_type(error.origin, str)
    except qxt.QxtError as error:
        assert_type((error.label, error.concerns_every_batch), tuple[str, bool])


def failing_journal(error: qxt.JournalError | qxt.CampaignError | qxt.DeliveryTimeoutError) -> None:
    """The errors of a journal, of campaigns and of deliveries."""
    if isinstance(error, qxt.JournalBusyError | qxt.JournalClosedError | qxt.JournalUnavailableError):
        assert_type(error.result, qxt.BatchResult | qxt.BulkResult | None)
    elif isinstance(error, qxt.JournalSchemaError):
        assert_type((error.found, error.known), tuple[int | None, int])
    elif isinstance(error, qxt.CampaignNotFoundError):
        assert_type(error.campaign, int)
    elif isinstance(error, qxt.CampaignStateError):
        assert_type((error.campaign, error.state), tuple[int, str])
    elif isinstance(error, qxt.ConfirmationRequiredError):
        assert_type((error.numbers, error.credits), tuple[int, int])
    elif isinstance(error, qxt.DeliveryTimeoutError):
        assert_type((error.mid, error.masked_number, error.timeout), tuple[str, str, float])


async def single_sends(journal: Journal) -> None:
    """Sends with a key, and their records."""
    limits = [qxt.NumberLimit(1, per=60)]
    client = qxt.QxtClient(
        "user", "password", base_url="http://gateway.test/qxt", journal=journal, number_limits=limits
    )
    sent = await client.send("13800138000", "【Acme】…", idempotency_key="k", number_limits=limits)
    assert_type((sent.mid, sent.replayed), tuple[str, bool])
    for record in await journal.sends(key="k", state=SendState.ACCEPTED):
        assert_type(record, SendRecord)
        assert_type((record.cursor, record.key, record.state), tuple[int, str | None, SendState])
        assert_type(record.result, qxt.BatchResult)
        assert_type(record.reports, tuple[qxt.StatusReport, ...])


async def campaigns(journal: Journal, client: qxt.QxtClient) -> None:
    """Plan, run, order, read and export campaigns."""
    campaigns = campaign.Campaigns(journal, client)
    plan = await campaigns.plan([Path("a.xlsx"), Path("b.txt")], "【Acme】Dear {name} …", substitute=True)
    assert_type(plan, campaign.CampaignPlan)
    window = campaign.SendWindow.parse("08:00-21:00")
    options = campaign.RunOptions(min_balance=1000, window=window, on_progress=progressed)
    counts = await campaigns.run(plan.id, options)
    assert_type(counts, campaign.CampaignCounts)
    assert_type(await campaigns.run_until_signalled(plan.id), campaign.CampaignCounts | None)
    readers = campaign.Campaigns(journal)
    assert_type(await readers.pause(plan.id, "lunch", actor="ann"), bool)
    quote = await readers.preview_resend(plan.id, campaign.BatchState.FAILED)
    assert_type(
        await readers.resend(plan.id, campaign.BatchState.FAILED, expected=quote, actor="ann"), campaign.ResendQuote
    )
    assert_type((await readers.pending_work(plan.id)).sending, bool)
    assert_type(await readers.export(plan.id, "numbers.parquet", format="parquet"), int)
    assert_type(await readers.report(plan.id, "report.html", language="zh"), campaign.ReportData)
    async for records in readers.numbers(plan.id):
        assert_type(records[0].state, campaign.NumberState)


def progressed(progress: campaign.RunProgress) -> None:
    """A callback."""
    assert_type(progress.counts.accepted, int)


assert_type(qxt.__version__, str)
