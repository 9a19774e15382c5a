-- Sending again, and what status reports prove.

-- name: resend_preview
SELECT coalesce(sum(n), 0), coalesce(sum(n * segments), 0) FROM (
    SELECT CASE :state WHEN 'unknown' THEN b.unknown ELSE b.failed END AS n, m.segments AS segments
    FROM batches AS b
    JOIN campaign_messages AS m ON m.id = b.message
    WHERE b.campaign = :campaign AND b.state IN ('accepted', 'failed', 'unknown')
) AS open;

-- The same, row by row.
-- name: resend_sources
SELECT
    b.id, b.message, b.state, b.count - b.suppressed, n.numbers, m.segments,
    CASE :state WHEN 'unknown' THEN b.unknown ELSE b.failed END
FROM batches AS b
JOIN batch_numbers AS n ON n.batch = b.id
JOIN campaign_messages AS m ON m.id = b.message
WHERE b.campaign = :campaign AND b.state IN ('accepted', 'failed', 'unknown')
    AND CASE :state WHEN 'unknown' THEN b.unknown ELSE b.failed END > 0
ORDER BY b.id
{hold_sources};

-- name: supersede
UPDATE batches SET
    successor = coalesce(:successor, successor),
    superseded = superseded + CASE :state WHEN 'unknown' THEN unknown ELSE failed END,
    unknown = CASE :state WHEN 'unknown' THEN 0 ELSE unknown END,
    failed = CASE :state WHEN 'unknown' THEN failed ELSE 0 END
WHERE id = :batch;

-- name: reconciled_cursor
SELECT cursor FROM reconciled;

-- name: advance_cursor
UPDATE reconciled SET cursor = :cursor WHERE cursor < :cursor;

-- Mids of reports behind the cursor that no recorded send has, with those that were kept before.
-- name: orphans
SELECT mid FROM (
    SELECT mid FROM orphan_mids
    UNION
    SELECT mid FROM reports WHERE seq > :after AND seq <= :until
) AS reported
WHERE NOT EXISTS (SELECT 1 FROM batches WHERE batches.mid = reported.mid)
    AND NOT EXISTS (SELECT 1 FROM batch_exceptions WHERE batch_exceptions.mid = reported.mid)
    AND NOT EXISTS (SELECT 1 FROM known_mids WHERE known_mids.mid = reported.mid);

-- name: newest_report
SELECT coalesce(max(seq), 0) FROM (SELECT seq FROM reports WHERE seq > :after ORDER BY seq LIMIT :limit) AS next;

-- name: reported_numbers
SELECT mid, number, first_at FROM reports WHERE mid IN EACH(:mids::text);

-- What may have arrived: whole batches without a mid, of any campaign. That the campaign is there lets SQLite use the
-- index of campaigns and states.
-- name: doubtful
SELECT b.id, b.campaign, b.state, coalesce(b.claimed_at, b.settled_at), n.numbers
FROM batches AS b
JOIN batch_numbers AS n ON n.batch = b.id
WHERE b.campaign IN (SELECT id FROM campaigns) AND b.state IN ('sending', 'unknown') AND b.mid IS NULL;

-- Which of their numbers were not sent, or refused.
-- name: not_sent_of
SELECT batch, number FROM batch_exceptions
WHERE batch IN EACH(:batches::bigint) AND state IN ('suppressed', 'failed', 'unknown');

-- What an answer did not mention may have arrived under an unknown mid: it explains reports, too, also while it is
-- sent again.
-- name: unmentioned
SELECT b.id, b.claimed_at, e.number
FROM batches AS b
JOIN batch_exceptions AS e ON e.batch = b.id
WHERE b.state = 'accepted' AND b.unknown + b.superseded > 0 AND e.state IN ('unknown', 'superseded');

-- name: bind
UPDATE batches SET state = 'accepted', mid = :mid, via_report = TRUE, settled_at = NOW
WHERE id = :batch AND state = 'unknown' AND mid IS NULL
    AND NOT EXISTS (SELECT 1 FROM batches AS other WHERE other.mid = :mid)
    AND NOT EXISTS (SELECT 1 FROM batch_exceptions AS other WHERE other.mid = :mid)
    AND NOT EXISTS (SELECT 1 FROM known_mids AS other WHERE other.mid = :mid)
RETURNING successor, campaign;

-- Numbers with a row of their own that are unknown were not in this attempt, but in an earlier one.
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
INSERT INTO orphan_mids (mid) SELECT value FROM EACH(:mids::text) WHERE TRUE ON CONFLICT (mid) DO NOTHING;

-- name: forget_orphans
DELETE FROM orphan_mids WHERE mid IN EACH(:mids::text);

-- Numbers that an answer did not mention, reported under a mid of that answer, though they may be planned a second
-- time. A mid that another recorded send has, too, proves nothing, and nor does a report from before the attempt.
-- Reports name the phone, which may be the end of the number that was sent: the caller compares them.
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
SELECT e.batch, e.number, r.number, its.mid, e.successor FROM its
JOIN batches AS b ON b.id = its.batch
JOIN batch_exceptions AS e ON e.batch = its.batch
JOIN reports AS r ON r.mid = its.mid AND r.number IN (e.number, substr(e.number, length(e.number) - 10))
LEFT JOIN batches AS second ON second.id = e.successor
WHERE (e.state = 'unknown' OR (e.state = 'superseded' AND second.state = 'planned'))
    AND r.first_at >= b.claimed_at
    AND NOT EXISTS (SELECT 1 FROM batches AS other WHERE other.mid = its.mid AND other.id <> its.batch)
    AND NOT EXISTS (SELECT 1 FROM batch_exceptions AS other WHERE other.mid = its.mid AND other.batch <> its.batch)
{hold_confirmed};

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
UPDATE batches SET overdue = TRUE
WHERE campaign = :campaign AND state IN ('accepted', 'unknown') AND unknown > 0 AND NOT overdue
    AND claimed_at < NOW - :deadline
RETURNING unknown;
