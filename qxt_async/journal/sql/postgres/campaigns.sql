-- The statements of the journal's second half, each under its name. now is NULL: the database's clock holds.

-- Who claims holds this lock together with others, who changes the campaign's state holds it alone: once a pause is
-- committed, nothing is claimed any more. Locks of rows would let a stream of claims keep the pause waiting for ever.
-- name: lock_for_claim
SELECT pg_advisory_xact_lock_shared(5331029, hashint8(%(campaign)s::bigint));

-- name: lock_for_order
SELECT pg_advisory_xact_lock(5331029, hashint8(%(campaign)s::bigint));

-- name: lock_reconciling
SELECT pg_advisory_xact_lock(5331028, 2);

-- name: create
INSERT INTO qxt.campaigns (name, state, created_at, changed_at, sources)
SELECT %(name)s, 'planning', now, now, %(sources)s FROM qxt.micros(%(now)s) AS now
RETURNING id;

-- name: clear_broken_off
DELETE FROM qxt.campaigns
WHERE state = 'planning'
    AND (changed_at < qxt.micros(%(now)s) - %(age)s OR changed_at > qxt.micros(%(now)s) + %(age)s);

-- name: touch_plan
UPDATE qxt.campaigns SET changed_at = qxt.micros(%(now)s) WHERE id = %(campaign)s AND state = 'planning';

-- name: insert_messages
INSERT INTO qxt.campaign_messages (campaign, digest, text, extno, addseqno, segments)
SELECT %(campaign)s, given.*
FROM unnest(
    %(digests)s::text[], %(texts)s::text[], %(extnos)s::text[], %(addseqnos)s::boolean[], %(segments)s::integer[]
) AS given (digest, text, extno, addseqno, segments)
ON CONFLICT (campaign, digest) DO UPDATE SET segments = excluded.segments
RETURNING digest, id;

-- name: copy_batches
COPY qxt.batches (campaign, message, state, count, numbers) FROM STDIN;

-- name: copy_left_out
COPY qxt.left_out (campaign, raw, reason, detail, source, line) FROM STDIN;

-- name: insert_batch
INSERT INTO qxt.batches (campaign, message, state, count, resend, doubtful, numbers)
VALUES (%(campaign)s, %(message)s, 'planned', %(count)s, true, %(doubtful)s, %(numbers)s)
RETURNING id;

-- name: finish
UPDATE qxt.campaigns SET
    state = 'planned', changed_at = qxt.micros(%(now)s), balance = %(balance)s, warnings = %(warnings)s,
    (numbers, batches, credits) = (
        SELECT coalesce(sum(b.count), 0), count(*), coalesce(sum(b.count::bigint * m.segments), 0)
        FROM qxt.batches AS b
        JOIN qxt.campaign_messages AS m ON m.id = b.message
        WHERE b.campaign = %(campaign)s
    ),
    (invalid, duplicates, suppressed) = (
        SELECT
            count(*) FILTER (WHERE out.reason = 'invalid'), count(*) FILTER (WHERE out.reason = 'duplicate'),
            count(*) FILTER (WHERE out.reason = 'suppressed')
        FROM qxt.left_out AS out WHERE out.campaign = %(campaign)s
    )
WHERE id = %(campaign)s;

-- name: discard
DELETE FROM qxt.campaigns WHERE id = %(campaign)s;

-- name: campaigns
SELECT
    id, name, state, reason, created_at, changed_at, numbers, batches, credits, invalid, duplicates, suppressed,
    balance, sources, warnings
FROM qxt.campaigns
WHERE id = %(campaign)s OR %(campaign)s::bigint IS NULL
ORDER BY id DESC;

-- name: tally
SELECT
    b.state, count(*), sum(b.count), sum(b.accepted), sum(b.failed), sum(b.unknown), sum(b.suppressed),
    sum(b.accepted::bigint * m.segments)::bigint
FROM qxt.batches AS b
JOIN qxt.campaign_messages AS m ON m.id = b.message
WHERE b.campaign = %(campaign)s
GROUP BY b.state;

-- name: deliveries
SELECT reports.state, count(*)
FROM (
    SELECT mid FROM qxt.batches WHERE campaign = %(campaign)s AND mid IS NOT NULL
    UNION
    SELECT e.mid FROM qxt.batch_exceptions AS e
    JOIN qxt.batches AS b ON b.id = e.batch
    WHERE e.mid IS NOT NULL AND b.campaign = %(campaign)s
) AS mids
JOIN qxt.reports ON reports.mid = mids.mid
GROUP BY reports.state;

-- name: messages
SELECT m.id, m.text, m.extno, m.addseqno, m.segments, sum(b.count), count(*)
FROM qxt.campaign_messages AS m
JOIN qxt.batches AS b ON b.message = m.id
WHERE m.campaign = %(campaign)s AND b.campaign = %(campaign)s AND m.id > %(after)s AND NOT b.resend
GROUP BY m.id
ORDER BY m.id LIMIT %(limit)s;

-- name: batches
SELECT
    id, campaign, message, state, count, accepted, failed, unknown, suppressed, superseded, mid, via_report, attempts,
    error, detail, resend, successor, overdue, claimed_at, settled_at
FROM qxt.batches
WHERE campaign = %(campaign)s AND id > %(after)s AND (state = %(state)s OR %(state)s::text IS NULL)
ORDER BY id LIMIT %(limit)s;

-- name: numbers_of
SELECT id, numbers FROM qxt.batches WHERE id = ANY(%(batches)s::bigint[]);

-- name: exceptions_of
SELECT batch, number, state, mid FROM qxt.batch_exceptions WHERE batch = ANY(%(batches)s::bigint[]);

-- name: reports_on
SELECT mid, mobile, code, state, received_at, area, city FROM qxt.reports WHERE mid = ANY(%(mids)s::text[]);

-- name: left_out
SELECT seq, raw, reason, detail, source, line FROM qxt.left_out
WHERE campaign = %(campaign)s AND seq > %(after)s AND (reason = %(reason)s OR %(reason)s::text IS NULL)
ORDER BY seq LIMIT %(limit)s;

-- name: insert_event
INSERT INTO qxt.campaign_events (campaign, at, what, by, detail, count)
VALUES (%(campaign)s, qxt.micros(%(now)s), %(what)s, %(by)s, %(detail)s, %(count)s);

-- name: events
SELECT at, what, by, detail, count FROM qxt.campaign_events WHERE campaign = %(campaign)s ORDER BY seq;

-- name: set_state
UPDATE qxt.campaigns SET state = %(state)s, reason = %(reason)s, changed_at = qxt.micros(%(now)s)
WHERE id = %(campaign)s;

-- name: cost_ahead
SELECT (
    (
        SELECT coalesce(sum(cost), 0) FROM (
            SELECT b.count::bigint * m.segments AS cost FROM qxt.batches AS b
            JOIN qxt.campaign_messages AS m ON m.id = b.message
            WHERE b.campaign = %(campaign)s AND b.state = 'planned'
            ORDER BY b.id LIMIT %(limit)s
        ) AS ahead
    ) + (
        SELECT coalesce(sum(b.count::bigint * m.segments), 0) FROM qxt.batches AS b
        JOIN qxt.campaign_messages AS m ON m.id = b.message
        WHERE b.campaign = %(campaign)s AND b.state = 'sending'
    )
)::bigint;

-- The compare-and-set on which everything rests. A back-off that seems to last longer than any does comes from a clock
-- that was set back. Opted out since the plan: only looked for if anybody has, a day of leeway for the clock.
-- name: claim
WITH next AS MATERIALIZED (
    SELECT id FROM qxt.batches
    WHERE campaign = %(campaign)s AND state = 'planned' AND {which}
        AND (not_before <= qxt.micros(%(now)s) OR not_before > qxt.micros(%(now)s) + %(leeway)s)
        AND EXISTS (SELECT FROM qxt.campaigns WHERE id = %(campaign)s AND state = 'running')
    ORDER BY id LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE qxt.batches AS b SET
    state = 'sending', token = %(token)s, attempts = b.attempts + 1, claimed_at = qxt.micros(%(now)s),
    lease_until = qxt.micros(%(now)s) + %(lease)s, error = '', detail = '', account = %(account)s
FROM next, qxt.campaign_messages AS m, qxt.campaigns AS c
WHERE b.id = next.id AND b.state = 'planned' AND m.id = b.message AND c.id = b.campaign
RETURNING
    b.id, b.unsent, b.doubtful, b.numbers, m.text, m.extno, m.addseqno,
    CASE WHEN EXISTS (SELECT FROM qxt.suppressions WHERE added_at >= c.created_at - 86400000000) THEN ARRAY(
        SELECT number FROM unnest(string_to_array(b.numbers, ',')) AS its (number)
        WHERE number IN (SELECT number FROM qxt.suppressions)
    ) END;

-- name: suppress_all
UPDATE qxt.batches SET
    state = CASE WHEN doubtful THEN 'unknown' ELSE 'failed' END,
    unknown = CASE WHEN doubtful THEN count ELSE 0 END,
    suppressed = CASE WHEN doubtful THEN 0 ELSE count END, error = 'Suppressed', settled_at = qxt.micros(%(now)s),
    detail = 'all of its numbers opted out after the plan'
WHERE id = %(batch)s;

-- name: suppress_some
UPDATE qxt.batches SET suppressed = %(count)s WHERE id = %(batch)s;

-- name: insert_exceptions
INSERT INTO qxt.batch_exceptions (batch, number, state, mid, successor)
SELECT %(batch)s, given.*
FROM unnest(%(numbers)s::text[], %(states)s::text[], %(mids)s::text[], %(successors)s::bigint[])
    AS given (number, state, mid, successor)
ON CONFLICT (batch, number) DO UPDATE SET
    state = excluded.state, mid = excluded.mid, successor = excluded.successor;

-- Once only: what the attempt itself said before stands, or a late "unknown" would undo what reports have shown since.
-- A definite answer is better evidence than reports. Unknown is what is left, and so who opted out before a second
-- attempt.
-- name: settle
UPDATE qxt.batches SET
    state = %(state)s, mid = %(mid)s, via_report = false, error = %(error)s, detail = %(detail)s,
    settled_at = qxt.micros(%(now)s), unsent = 0,
    accepted = CASE WHEN successor IS NULL THEN %(accepted)s ELSE 0 END,
    failed = CASE WHEN successor IS NULL THEN %(failed)s ELSE 0 END,
    unknown = CASE WHEN successor IS NULL THEN count - suppressed - superseded - %(accepted)s - %(failed)s ELSE 0 END
WHERE id = %(batch)s AND token = %(token)s AND (
    state = 'sending' OR (state = 'unknown' AND error = 'LeaseExpired') OR (via_report AND %(state)s <> 'unknown')
)
RETURNING successor;

-- name: put_back
UPDATE qxt.batches SET
    state = 'planned', unsent = unsent + %(counted)s, error = %(error)s, detail = %(detail)s,
    not_before = CASE WHEN %(delay)s::bigint > 0 THEN qxt.micros(%(now)s) + %(delay)s ELSE 0 END,
    unknown = 0, suppressed = 0, settled_at = NULL, account = NULL
WHERE id = %(batch)s AND token = %(token)s AND superseded = 0
    AND (state = 'sending' OR (state = 'unknown' AND error = 'LeaseExpired'));

-- name: reopen
UPDATE qxt.campaigns SET state = 'paused', reason = %(reason)s, changed_at = qxt.micros(%(now)s)
WHERE id = %(campaign)s AND state = 'done';

-- name: give_up
UPDATE qxt.batches SET
    state = CASE WHEN doubtful THEN 'unknown' ELSE 'failed' END,
    unsent = unsent + %(counted)s, error = %(error)s, detail = %(detail)s, settled_at = qxt.micros(%(now)s),
    unknown = CASE WHEN superseded = 0 AND doubtful THEN count - suppressed ELSE 0 END,
    failed = CASE WHEN superseded = 0 AND NOT doubtful THEN count - suppressed ELSE 0 END
WHERE id = %(batch)s AND token = %(token)s
    AND (state = 'sending' OR (state = 'unknown' AND error = 'LeaseExpired'));

-- name: recount
UPDATE qxt.batches SET
    accepted = %(accepted)s, failed = %(failed)s,
    unknown = count - suppressed - %(accepted)s - %(failed)s
WHERE id = %(batch)s;

-- name: forget_exceptions
DELETE FROM qxt.batch_exceptions WHERE batch = %(batch)s;

-- name: find_claim
SELECT id FROM qxt.batches WHERE campaign = %(campaign)s AND state = 'sending' AND token = %(token)s;

-- A lease that seems to begin in the future comes from a clock that was set back.
-- name: expire
UPDATE qxt.batches SET
    state = 'unknown', unknown = count - suppressed, settled_at = qxt.micros(%(now)s), error = 'LeaseExpired',
    detail = 'the process that sent it never said what became of it'
WHERE campaign = %(campaign)s AND state = 'sending'
    AND (lease_until <= qxt.micros(%(now)s) OR claimed_at > qxt.micros(%(now)s) + %(leeway)s)
    AND token <> ALL(%(alive)s::text[]);

-- name: outlook
SELECT
    state, reason,
    EXISTS (SELECT FROM qxt.batches WHERE campaign = %(campaign)s AND state = 'planned'),
    EXISTS (SELECT FROM qxt.batches WHERE campaign = %(campaign)s AND state = 'sending')
FROM qxt.campaigns WHERE id = %(campaign)s;

-- name: withdraw_successor
UPDATE qxt.batches SET state = 'withdrawn'
WHERE state = 'planned' AND id = (SELECT successor FROM qxt.batches WHERE id = %(batch)s);

-- name: own_again
UPDATE qxt.batches SET superseded = 0, successor = NULL WHERE id = %(batch)s;

-- A second attempt that failed says nothing of the first one, whose numbers these are again.
-- name: fall_back
UPDATE qxt.batches SET superseded = 0, successor = NULL, unknown = count - suppressed
WHERE successor = %(batch)s AND state = 'unknown'
    AND EXISTS (SELECT 1 FROM qxt.batches AS second WHERE second.id = %(batch)s AND second.superseded = 0);

-- A campaign that was cancelled sends nothing a second time: what may have arrived at the first is unknown again.
-- name: forgo
UPDATE qxt.batches SET
    state = 'unknown', unknown = count, error = 'Cancelled', detail = 'cancelled before it was sent again',
    settled_at = qxt.micros(%(now)s)
WHERE campaign = %(campaign)s AND state = 'planned' AND doubtful
    AND EXISTS (SELECT FROM qxt.campaigns WHERE id = %(campaign)s AND state = 'cancelled')
RETURNING id;

-- name: withdraw
UPDATE qxt.batches SET state = 'withdrawn', failed = 0, unknown = 0 WHERE id = %(batch)s;

-- name: resend_preview
SELECT coalesce(sum(n), 0), coalesce(sum(n * segments), 0)::bigint FROM (
    SELECT CASE %(state)s WHEN 'unknown' THEN b.unknown ELSE b.failed END AS n, m.segments::bigint AS segments
    FROM qxt.batches AS b
    JOIN qxt.campaign_messages AS m ON m.id = b.message
    WHERE b.campaign = %(campaign)s AND b.state IN ('accepted', 'failed', 'unknown')
) AS open;

-- The same, row by row, and nobody changes them until the commit.
-- name: resend_sources
SELECT
    b.id, b.message, b.state, b.count - b.suppressed, b.numbers, m.segments,
    CASE %(state)s WHEN 'unknown' THEN b.unknown ELSE b.failed END
FROM qxt.batches AS b
JOIN qxt.campaign_messages AS m ON m.id = b.message
WHERE b.campaign = %(campaign)s AND b.state IN ('accepted', 'failed', 'unknown')
    AND CASE %(state)s WHEN 'unknown' THEN b.unknown ELSE b.failed END > 0
ORDER BY b.id
FOR UPDATE OF b;

-- name: set_successor
UPDATE qxt.batches SET successor = %(successor)s WHERE id = %(batch)s;

-- name: supersede
UPDATE qxt.batches SET
    superseded = superseded + CASE %(state)s WHEN 'unknown' THEN unknown ELSE failed END,
    unknown = CASE %(state)s WHEN 'unknown' THEN 0 ELSE unknown END,
    failed = CASE %(state)s WHEN 'unknown' THEN failed ELSE 0 END
WHERE id = %(batch)s;

-- name: reconciled_cursor
SELECT cursor FROM qxt.reconciled;

-- name: advance_cursor
UPDATE qxt.reconciled SET cursor = %(cursor)s WHERE cursor < %(cursor)s;

-- Mids of reports behind the cursor that no batch has, with those that were kept before.
-- name: orphans
SELECT mid FROM (
    SELECT mid FROM qxt.orphan_mids
    UNION
    SELECT mid FROM qxt.reports WHERE seq > %(after)s AND seq <= %(until)s
) AS reported
WHERE NOT EXISTS (SELECT FROM qxt.batches WHERE batches.mid = reported.mid)
    AND NOT EXISTS (SELECT FROM qxt.batch_exceptions WHERE batch_exceptions.mid = reported.mid);

-- name: newest_of_all
SELECT coalesce(max(seq), 0) FROM qxt.reports;

-- name: newest_report
SELECT coalesce(max(seq), 0)
FROM (SELECT seq FROM qxt.reports WHERE seq > %(after)s ORDER BY seq LIMIT %(limit)s) AS next;

-- name: reported_numbers
SELECT mid, mobile, received_at FROM qxt.reports WHERE mid = ANY(%(mids)s::text[]);

-- What may have arrived: whole batches without a mid, of any campaign; and which of their numbers were not sent, or
-- refused.
-- name: doubtful
SELECT
    id, campaign, state, coalesce(claimed_at, settled_at), numbers,
    (
        SELECT coalesce(string_agg(number, ','), '') FROM qxt.batch_exceptions AS e
        WHERE e.batch = batches.id AND e.state IN ('suppressed', 'failed', 'unknown')
    )
FROM qxt.batches
WHERE state IN ('sending', 'unknown') AND mid IS NULL;

-- name: bind
UPDATE qxt.batches AS b SET
    state = 'accepted', mid = %(mid)s, via_report = true, settled_at = qxt.micros(%(now)s)
WHERE b.id = %(batch)s AND b.state = 'unknown' AND b.mid IS NULL
    AND NOT EXISTS (SELECT FROM qxt.batches AS other WHERE other.mid = %(mid)s)
RETURNING b.successor, b.campaign;

-- Numbers that are unknown by themselves were not in the attempt, but in an earlier one.
-- name: recount_bound
UPDATE qxt.batches SET
    (accepted, unknown) = (
        SELECT count - failed - suppressed - superseded - count(e.number), count(e.number)
        FROM qxt.batch_exceptions AS e WHERE e.batch = %(batch)s AND e.state = 'unknown'
    )
WHERE id = %(batch)s;

-- name: accepted_in
SELECT accepted FROM qxt.batches WHERE id = %(batch)s;

-- name: keep_orphans
INSERT INTO qxt.orphan_mids (mid) SELECT unnest(%(mids)s::text[]) ON CONFLICT (mid) DO NOTHING;

-- name: forget_orphans
DELETE FROM qxt.orphan_mids WHERE mid = ANY(%(mids)s::text[]);

-- Numbers that an answer did not mention, reported under a mid of that answer, though they are planned a second time.
-- name: confirmed_numbers
WITH open AS (
    SELECT id, mid FROM qxt.batches
    WHERE campaign = %(campaign)s AND state = 'accepted' AND unknown + superseded > 0
), its AS (
    SELECT id AS batch, mid FROM open
    UNION
    SELECT other.batch, other.mid FROM open
    JOIN qxt.batch_exceptions AS other ON other.batch = open.id
    WHERE other.mid IS NOT NULL
)
SELECT e.batch, e.number, its.mid, e.successor FROM its
JOIN qxt.batches AS b ON b.id = its.batch
JOIN qxt.batch_exceptions AS e ON e.batch = its.batch
JOIN qxt.reports AS r ON r.mid = its.mid AND r.mobile = e.number
LEFT JOIN qxt.batches AS second ON second.id = e.successor
WHERE e.state = 'unknown' OR (e.state = 'superseded' AND second.state = 'planned')
FOR UPDATE OF b, e;

-- name: confirm_number
UPDATE qxt.batch_exceptions SET state = 'accepted', mid = %(mid)s, successor = NULL
WHERE batch = %(batch)s AND number = %(number)s;

-- name: count_confirmed
UPDATE qxt.batches SET
    accepted = accepted + 1, unknown = unknown - 1 + %(planned_again)s, superseded = superseded - %(planned_again)s
WHERE id = %(batch)s;

-- name: leave_out
UPDATE qxt.batches SET
    count = count - 1, state = CASE count WHEN 1 THEN 'withdrawn' ELSE state END,
    numbers = trim(BOTH ',' FROM replace(',' || numbers || ',', ',' || %(number)s || ',', ','))
WHERE id = %(batch)s AND state = 'planned';

-- name: mark_overdue
UPDATE qxt.batches SET overdue = true
WHERE campaign = %(campaign)s AND state IN ('accepted', 'unknown') AND unknown > 0 AND NOT overdue
    AND claimed_at < qxt.micros(%(now)s) - %(deadline)s
RETURNING unknown;

-- name: lock_limits
SELECT max_request_rate, max_rate, max_concurrency, requests_free_at, numbers_free_at, qxt.micros(%(now)s)
FROM qxt.limits WHERE account = %(account)s
FOR UPDATE;

-- A statement of its own, after the lock: it has to see what others claimed while this one waited.
-- name: count_sending
SELECT count(*) FROM qxt.batches WHERE account = %(account)s AND state = 'sending';

-- name: spend
UPDATE qxt.limits SET requests_free_at = %(requests_free_at)s, numbers_free_at = %(numbers_free_at)s
WHERE account = %(account)s;

-- name: set_limits
INSERT INTO qxt.limits AS known (account, max_request_rate, max_rate, max_concurrency)
VALUES (%(account)s, %(max_request_rate)s, %(max_rate)s, %(max_concurrency)s)
ON CONFLICT (account) DO UPDATE SET
    max_request_rate = excluded.max_request_rate, max_rate = excluded.max_rate,
    max_concurrency = excluded.max_concurrency,
    requests_free_at = CASE known.max_request_rate WHEN excluded.max_request_rate THEN known.requests_free_at ELSE 0 END,
    numbers_free_at = CASE known.max_rate WHEN excluded.max_rate THEN known.numbers_free_at ELSE 0 END;

-- name: unset_limits
DELETE FROM qxt.limits WHERE account = %(account)s;

-- name: limits
SELECT max_request_rate, max_rate, max_concurrency FROM qxt.limits WHERE account = %(account)s;
