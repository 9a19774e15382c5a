-- The statements of the journal's second half, each under its name.

-- name: create
INSERT INTO campaigns (name, state, created_at, changed_at, sources)
VALUES (:name, 'planning', :now, :now, :sources)
RETURNING id;

-- name: clear_broken_off
DELETE FROM campaigns WHERE state = 'planning' AND (changed_at < :before OR changed_at > :after);

-- name: touch_plan
UPDATE campaigns SET changed_at = :now WHERE id = :campaign AND state = 'planning';

-- name: insert_message
INSERT INTO campaign_messages (campaign, digest, text, extno, addseqno, segments)
VALUES (:campaign, :digest, :text, :extno, :addseqno, :segments)
ON CONFLICT (campaign, digest) DO UPDATE SET segments = excluded.segments
RETURNING id;

-- name: insert_batch
INSERT INTO batches (campaign, message, state, count, resend, doubtful)
VALUES (:campaign, :message, 'planned', :count, :resend, :doubtful)
RETURNING id;

-- name: insert_numbers
INSERT INTO batch_numbers (batch, numbers) VALUES (:batch, :numbers);

-- name: insert_left_out
INSERT INTO left_out (campaign, raw, reason, detail, source, line)
SELECT
    :campaign, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]')
FROM json_each(:rows);

-- name: finish
UPDATE campaigns SET
    state = 'planned', changed_at = :now, balance = :balance, warnings = :warnings,
    numbers = (SELECT coalesce(sum(count), 0) FROM batches WHERE campaign = :campaign),
    batches = (SELECT count(*) FROM batches WHERE campaign = :campaign),
    credits = (
        SELECT coalesce(sum(b.count * m.segments), 0) FROM batches AS b
        JOIN campaign_messages AS m ON m.id = b.message
        WHERE b.campaign = :campaign
    ),
    invalid = (SELECT count(*) FROM left_out WHERE campaign = :campaign AND reason = 'invalid'),
    duplicates = (SELECT count(*) FROM left_out WHERE campaign = :campaign AND reason = 'duplicate'),
    suppressed = (SELECT count(*) FROM left_out WHERE campaign = :campaign AND reason = 'suppressed')
WHERE id = :campaign;

-- name: discard
DELETE FROM campaigns WHERE id = :campaign;

-- name: campaigns
SELECT
    id, name, state, reason, created_at, changed_at, numbers, batches, credits, invalid, duplicates, suppressed,
    balance, sources, warnings
FROM campaigns
WHERE id = :campaign OR :campaign IS NULL
ORDER BY id DESC;

-- name: tally
SELECT
    state, count(*), sum(count), sum(b.accepted), sum(b.failed), sum(b.unknown), sum(b.suppressed),
    sum(b.accepted * m.segments)
FROM batches AS b
JOIN campaign_messages AS m ON m.id = b.message
WHERE b.campaign = :campaign
GROUP BY state;

-- name: deliveries
SELECT reports.state, count(*)
FROM (
    SELECT mid FROM batches WHERE campaign = :campaign AND mid IS NOT NULL
    UNION
    SELECT e.mid FROM batch_exceptions AS e
    JOIN batches AS b ON b.id = e.batch
    WHERE e.mid IS NOT NULL AND b.campaign = :campaign
) AS mids
JOIN reports ON reports.mid = mids.mid
GROUP BY reports.state;

-- name: messages
SELECT m.id, m.text, m.extno, m.addseqno, m.segments, sum(b.count), count(*)
FROM campaign_messages AS m
JOIN batches AS b ON b.message = m.id
WHERE m.campaign = :campaign AND m.id > :after AND NOT b.resend
GROUP BY m.id
ORDER BY m.id LIMIT :limit;

-- name: batches
SELECT
    id, campaign, message, state, count, accepted, failed, unknown, suppressed, superseded, mid, via_report, attempts,
    error, detail, resend, successor, overdue, claimed_at, settled_at
FROM batches
WHERE campaign = :campaign AND id > :after AND (state = :state OR :state IS NULL)
ORDER BY id LIMIT :limit;

-- name: numbers_of
SELECT batch, numbers FROM batch_numbers WHERE batch IN (SELECT value FROM json_each(:batches));

-- name: exceptions_of
SELECT batch, number, state, mid FROM batch_exceptions WHERE batch IN (SELECT value FROM json_each(:batches));

-- name: reports_on
SELECT mid, mobile, code, state, received_at, area, city
FROM reports WHERE mid IN (SELECT value FROM json_each(:mids));

-- name: left_out
SELECT seq, raw, reason, detail, source, line FROM left_out
WHERE campaign = :campaign AND seq > :after AND (reason = :reason OR :reason IS NULL)
ORDER BY seq LIMIT :limit;

-- name: insert_event
INSERT INTO campaign_events (campaign, at, what, by, detail, count)
VALUES (:campaign, :now, :what, :by, :detail, :count);

-- name: events
SELECT at, what, by, detail, count FROM campaign_events WHERE campaign = :campaign ORDER BY seq;

-- name: set_state
UPDATE campaigns SET state = :state, reason = :reason, changed_at = :now WHERE id = :campaign;

-- name: cost_ahead
SELECT
    (
        SELECT coalesce(sum(cost), 0) FROM (
            SELECT b.count * m.segments AS cost FROM batches AS b
            JOIN campaign_messages AS m ON m.id = b.message
            WHERE b.campaign = :campaign AND b.state = 'planned'
            ORDER BY b.id LIMIT :limit
        ) AS ahead
    ) + (
        SELECT coalesce(sum(b.count * m.segments), 0) FROM batches AS b
        JOIN campaign_messages AS m ON m.id = b.message
        WHERE b.campaign = :campaign AND b.state = 'sending'
    );

-- The compare-and-set on which everything rests. A back-off that seems to last longer than any does comes from a clock
-- that was set back. Opted out since the plan: only looked for if anybody has, a day of leeway for the clock.
-- name: claim
UPDATE batches SET
    state = 'sending', token = :token, attempts = attempts + 1, claimed_at = :now, lease_until = :until,
    error = '', detail = ''
WHERE id = (
    SELECT id FROM batches
    WHERE campaign = :campaign AND state = 'planned' AND (not_before <= :now OR not_before > :far)
        AND (id = :batch OR :batch IS NULL)
    ORDER BY id LIMIT 1
) AND EXISTS (SELECT 1 FROM campaigns WHERE id = :campaign AND state = 'running')
RETURNING
    id, unsent, doubtful,
    (SELECT numbers FROM batch_numbers WHERE batch = batches.id),
    (SELECT json_array(text, extno, addseqno) FROM campaign_messages WHERE id = batches.message),
    CASE WHEN EXISTS (
        SELECT 1 FROM suppressions
        WHERE added_at >= (SELECT created_at - 86400000000 FROM campaigns WHERE id = :campaign)
    ) THEN (
        SELECT json_group_array(value)
        FROM json_each(
            (SELECT '["' || replace(numbers, ',', '","') || '"]' FROM batch_numbers WHERE batch = batches.id)
        )
        WHERE value IN (SELECT number FROM suppressions)
    ) END;

-- name: suppress_all
UPDATE batches SET
    state = CASE WHEN doubtful THEN 'unknown' ELSE 'failed' END,
    unknown = CASE WHEN doubtful THEN count ELSE 0 END,
    suppressed = CASE WHEN doubtful THEN 0 ELSE count END, error = 'Suppressed', settled_at = :now,
    detail = 'all of its numbers opted out after the plan'
WHERE id = :batch;

-- name: suppress_some
UPDATE batches SET suppressed = :count WHERE id = :batch;

-- name: insert_exceptions
INSERT INTO batch_exceptions (batch, number, state, mid, successor)
SELECT
    :batch, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]')
FROM json_each(:rows)
WHERE TRUE
ON CONFLICT (batch, number) DO UPDATE SET
    state = excluded.state, mid = excluded.mid, successor = excluded.successor;

-- Once only: what the attempt itself said before stands, or a late "unknown" would undo what reports have shown since.
-- A definite answer is better evidence than reports. Unknown is what is left, and so who opted out before a second
-- attempt.
-- name: settle
UPDATE batches SET
    state = :state, mid = :mid, via_report = 0, error = :error, detail = :detail, settled_at = :now, unsent = 0,
    accepted = CASE WHEN successor IS NULL THEN :accepted ELSE 0 END,
    failed = CASE WHEN successor IS NULL THEN :failed ELSE 0 END,
    unknown = CASE WHEN successor IS NULL THEN count - suppressed - superseded - :accepted - :failed ELSE 0 END
WHERE id = :batch AND token = :token AND (
    state = 'sending' OR (state = 'unknown' AND error = 'LeaseExpired') OR (via_report AND :state <> 'unknown')
)
RETURNING successor;

-- name: put_back
UPDATE batches SET
    state = 'planned', not_before = :not_before, unsent = unsent + :counted, error = :error, detail = :detail,
    unknown = 0, suppressed = 0, settled_at = NULL
WHERE id = :batch AND token = :token AND superseded = 0
    AND (state = 'sending' OR (state = 'unknown' AND error = 'LeaseExpired'));

-- name: reopen
UPDATE campaigns SET state = 'paused', reason = :reason, changed_at = :now WHERE id = :campaign AND state = 'done';

-- name: give_up
UPDATE batches SET
    state = CASE WHEN doubtful THEN 'unknown' ELSE 'failed' END,
    unsent = unsent + :counted, error = :error, detail = :detail, settled_at = :now,
    unknown = CASE WHEN superseded = 0 AND doubtful THEN count - suppressed ELSE 0 END,
    failed = CASE WHEN superseded = 0 AND NOT doubtful THEN count - suppressed ELSE 0 END
WHERE id = :batch AND token = :token AND (state = 'sending' OR (state = 'unknown' AND error = 'LeaseExpired'));

-- name: recount
UPDATE batches SET
    accepted = :accepted, failed = :failed,
    unknown = count - suppressed - :accepted - :failed
WHERE id = :batch;

-- name: state_of
SELECT state FROM batches WHERE id = :batch;

-- name: forget_exceptions
DELETE FROM batch_exceptions WHERE batch = :batch;

-- name: find_claim
SELECT id FROM batches WHERE campaign = :campaign AND state = 'sending' AND token = :token;

-- A lease that seems to begin in the future comes from a clock that was set back.
-- name: expire
UPDATE batches SET
    state = 'unknown', unknown = count - suppressed, settled_at = :now, error = 'LeaseExpired',
    detail = 'the process that sent it never said what became of it'
WHERE campaign = :campaign AND state = 'sending' AND (lease_until <= :now OR claimed_at > :soon)
    AND token NOT IN (SELECT value FROM json_each(:alive));

-- name: outlook
SELECT
    state, reason,
    EXISTS (SELECT 1 FROM batches WHERE campaign = :campaign AND state = 'planned'),
    EXISTS (SELECT 1 FROM batches WHERE campaign = :campaign AND state = 'sending')
FROM campaigns WHERE id = :campaign;

-- name: withdraw_successor
UPDATE batches SET state = 'withdrawn'
WHERE state = 'planned' AND id = (SELECT successor FROM batches WHERE id = :batch);

-- name: own_again
UPDATE batches SET superseded = 0, successor = NULL WHERE id = :batch;

-- A second attempt that failed says nothing of the first one, whose numbers these are again.
-- name: fall_back
UPDATE batches SET superseded = 0, successor = NULL, unknown = count - suppressed
WHERE successor = :batch AND state = 'unknown'
    AND EXISTS (SELECT 1 FROM batches AS second WHERE second.id = :batch AND second.superseded = 0);

-- A campaign that was cancelled sends nothing a second time: what may have arrived at the first is unknown again.
-- name: forgo
UPDATE batches SET
    state = 'unknown', unknown = count, error = 'Cancelled', detail = 'cancelled before it was sent again',
    settled_at = :now
WHERE campaign = :campaign AND state = 'planned' AND doubtful
    AND EXISTS (SELECT 1 FROM campaigns WHERE id = :campaign AND state = 'cancelled')
RETURNING id;

-- name: withdraw
UPDATE batches SET state = 'withdrawn', failed = 0, unknown = 0 WHERE id = :batch;

-- name: resend_preview
SELECT coalesce(sum(n), 0), coalesce(sum(n * segments), 0) FROM (
    SELECT CASE :state WHEN 'unknown' THEN b.unknown ELSE b.failed END AS n, m.segments AS segments
    FROM batches AS b
    JOIN campaign_messages AS m ON m.id = b.message
    WHERE b.campaign = :campaign AND b.state IN ('accepted', 'failed', 'unknown')
) AS open;

-- name: resend_sources
SELECT id, message, count - suppressed = CASE :state WHEN 'unknown' THEN unknown ELSE failed END
FROM batches
WHERE campaign = :campaign AND state IN ('accepted', 'failed', 'unknown')
    AND CASE :state WHEN 'unknown' THEN unknown ELSE failed END > 0
ORDER BY id;

-- name: set_successor
UPDATE batches SET successor = :successor WHERE id = :batch;

-- name: supersede
UPDATE batches SET
    superseded = superseded + CASE :state WHEN 'unknown' THEN unknown ELSE failed END,
    unknown = CASE :state WHEN 'unknown' THEN 0 ELSE unknown END,
    failed = CASE :state WHEN 'unknown' THEN failed ELSE 0 END
WHERE id = :batch;

-- name: reconciled_cursor
SELECT cursor FROM reconciled;

-- name: advance_cursor
UPDATE reconciled SET cursor = :cursor WHERE cursor < :cursor;

-- Mids of reports behind the cursor that no batch has, with those that were kept before.
-- name: orphans
SELECT mid FROM orphan_mids
UNION
SELECT mid FROM reports WHERE seq > :after AND seq <= :until
EXCEPT
SELECT mid FROM batches WHERE mid IS NOT NULL
EXCEPT
SELECT mid FROM batch_exceptions WHERE mid IS NOT NULL;

-- name: newest_of_all
SELECT coalesce(max(seq), 0) FROM reports;

-- name: newest_report
SELECT coalesce(max(seq), 0) FROM (SELECT seq FROM reports WHERE seq > :after ORDER BY seq LIMIT :limit) AS next;

-- name: reported_numbers
SELECT mid, mobile, received_at FROM reports WHERE mid IN (SELECT value FROM json_each(:mids));

-- What may have arrived: whole batches without a mid, of any campaign; and which of their numbers were not sent, or
-- refused.
-- name: doubtful
SELECT
    b.id, b.campaign, b.state, coalesce(b.claimed_at, b.settled_at), n.numbers,
    (
        SELECT coalesce(group_concat(number), '') FROM batch_exceptions
        WHERE batch = b.id AND state IN ('suppressed', 'failed', 'unknown')
    )
FROM batches AS b
JOIN batch_numbers AS n ON n.batch = b.id
WHERE b.campaign IN (SELECT id FROM campaigns) AND b.state IN ('sending', 'unknown') AND b.mid IS NULL;

-- name: bind
UPDATE batches SET state = 'accepted', mid = :mid, via_report = 1, settled_at = :now
WHERE id = :batch AND state = 'unknown' AND mid IS NULL
    AND NOT EXISTS (SELECT 1 FROM batches AS other WHERE other.mid = :mid)
RETURNING successor, campaign;

-- Numbers that are unknown by themselves were not in the attempt, but in an earlier one.
-- name: recount_bound
UPDATE batches SET
    (accepted, unknown) = (
        SELECT count - failed - suppressed - superseded - count(e.number), count(e.number)
        FROM batch_exceptions AS e WHERE e.batch = :batch AND e.state = 'unknown'
    )
WHERE id = :batch;

-- name: accepted_in
SELECT accepted FROM batches WHERE id = :batch;

-- name: keep_orphans
INSERT INTO orphan_mids (mid) SELECT value FROM json_each(:mids) WHERE TRUE ON CONFLICT (mid) DO NOTHING;

-- name: forget_orphans
DELETE FROM orphan_mids WHERE mid IN (SELECT value FROM json_each(:mids));

-- Numbers that an answer did not mention, reported under a mid of that answer, though they are planned a second time.
-- name: confirmed_numbers
WITH open AS (
    SELECT id, mid FROM batches WHERE campaign = :campaign AND state = 'accepted' AND unknown + superseded > 0
), its AS (
    SELECT id AS batch, mid FROM open
    UNION
    SELECT other.batch, other.mid FROM open
    JOIN batch_exceptions AS other ON other.batch = open.id
    WHERE other.mid IS NOT NULL
)
SELECT e.batch, e.number, its.mid, e.successor FROM its
JOIN batch_exceptions AS e ON e.batch = its.batch
JOIN reports AS r ON r.mid = its.mid AND r.mobile = e.number
LEFT JOIN batches AS second ON second.id = e.successor
WHERE e.state = 'unknown' OR (e.state = 'superseded' AND second.state = 'planned');

-- name: confirm_number
UPDATE batch_exceptions SET state = 'accepted', mid = :mid, successor = NULL WHERE batch = :batch AND number = :number;

-- name: count_confirmed
UPDATE batches SET
    accepted = accepted + 1, unknown = unknown - 1 + :planned_again, superseded = superseded - :planned_again
WHERE id = :batch;

-- name: leave_out
UPDATE batches SET count = count - 1, state = CASE count WHEN 1 THEN 'withdrawn' ELSE state END
WHERE id = :batch AND state = 'planned';

-- name: leave_out_number
UPDATE batch_numbers SET numbers = trim(replace(',' || numbers || ',', ',' || :number || ',', ','), ',')
WHERE batch = :batch;

-- name: mark_overdue
UPDATE batches SET overdue = 1
WHERE campaign = :campaign AND state IN ('accepted', 'unknown') AND unknown > 0 AND overdue = 0 AND claimed_at < :before
RETURNING unknown;
