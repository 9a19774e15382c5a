-- Campaigns: plans, states, what is there.

-- name: create
INSERT INTO campaigns (name, state, created_at, changed_at, sources)
SELECT :name, 'planning', at, at, :sources FROM (SELECT NOW AS at) AS clock
RETURNING id;

-- name: clear_broken_off
DELETE FROM campaigns WHERE state = 'planning' AND (changed_at < NOW - :age OR changed_at > NOW + :age);

-- name: touch_plan
UPDATE campaigns SET changed_at = NOW WHERE id = :campaign AND state = 'planning';

-- name: message_keys
SELECT digest, id FROM campaign_messages WHERE campaign = :campaign AND digest IN EACH(:digests::text);

-- name: insert_messages
INSERT INTO campaign_messages (id, campaign, digest, text, extno, addseqno, segments)
VALUES (:id, :campaign, :digest, :text, :extno, :addseqno, :segments);

-- name: insert_left_out
INSERT INTO left_out (campaign, raw, reason, detail, source, line)
VALUES (:campaign, :raw, :reason, :detail, :source, :line);

-- name: finish
UPDATE campaigns SET
    state = 'planned', changed_at = NOW, balance = :balance, warnings = :warnings,
    (numbers, batches, credits) = (
        SELECT coalesce(sum(b.count), 0), count(*), coalesce(sum(b.count * m.segments), 0)
        FROM batches AS b
        JOIN campaign_messages AS m ON m.id = b.message
        WHERE b.campaign = :campaign
    ),
    (invalid, duplicates, suppressed) = (
        SELECT
            count(*) FILTER (WHERE l.reason = 'invalid'), count(*) FILTER (WHERE l.reason = 'duplicate'),
            count(*) FILTER (WHERE l.reason = 'suppressed')
        FROM left_out AS l WHERE l.campaign = :campaign
    )
WHERE id = :campaign;

-- name: discard
DELETE FROM campaigns WHERE id = :campaign;

-- name: campaigns
SELECT
    id, name, state, reason, created_at, changed_at, numbers, batches, credits, invalid, duplicates, suppressed,
    balance, sources, warnings, on_workers
FROM campaigns
WHERE id > 0 AND {where}
ORDER BY id DESC;

-- In the order of batches_by_state: else PostgreSQL may look for a planned batch among all that were sent.
-- name: pending_work
SELECT
    state, reason,
    (
        SELECT id FROM batches WHERE campaign = :campaign AND state = 'planned' ORDER BY test DESC, id LIMIT 1
    ) IS NOT NULL,
    EXISTS (SELECT 1 FROM batches WHERE campaign = :campaign AND state = 'sending')
FROM campaigns WHERE id = :campaign;

-- name: set_state
UPDATE campaigns SET state = :state, reason = :reason, changed_at = NOW WHERE id = :campaign;

-- name: pause_from
UPDATE campaigns SET state = 'paused', reason = :reason, changed_at = NOW WHERE id = :campaign AND state = :state;

-- name: set_on_workers
UPDATE campaigns SET on_workers = :on_workers WHERE id = :campaign;

-- name: insert_event
INSERT INTO campaign_events (campaign, at, what, actor, detail, count)
VALUES (:campaign, NOW, :what, :actor, :detail, :count);

-- name: events
SELECT at, what, actor, detail, count FROM campaign_events WHERE campaign = :campaign ORDER BY seq;

-- name: counts
SELECT
    b.state, count(*), sum(b.count), sum(b.accepted), sum(b.failed), sum(b.unknown), sum(b.suppressed),
    sum(b.accepted * m.segments)
FROM batches AS b
JOIN campaign_messages AS m ON m.id = b.message
WHERE b.campaign = :campaign
GROUP BY b.state;

-- name: cost_ahead
SELECT
    (
        SELECT coalesce(sum(cost), 0) FROM (
            SELECT b.count * m.segments AS cost FROM batches AS b
            JOIN campaign_messages AS m ON m.id = b.message
            WHERE b.campaign = :campaign AND b.state = 'planned' AND b.test < 1
            ORDER BY b.test DESC, b.id LIMIT :limit
        ) AS ahead
    ) + (
        SELECT coalesce(sum(b.count * m.segments), 0) FROM batches AS b
        JOIN campaign_messages AS m ON m.id = b.message
        WHERE b.campaign = :campaign AND (b.state = 'sending' OR (b.state = 'planned' AND b.test > 0))
    );

-- name: messages
SELECT m.id, m.text, m.extno, m.addseqno, m.segments, sum(b.count), count(*)
FROM campaign_messages AS m
JOIN batches AS b ON b.message = m.id
WHERE m.campaign = :campaign AND b.campaign = :campaign AND m.id > :after AND NOT b.resend
GROUP BY m.id
ORDER BY m.id LIMIT :limit;

-- name: batches
SELECT
    id, campaign, message, state, count, accepted, failed, unknown, suppressed, superseded, mid, via_report, attempts,
    error, detail, resend, successor, overdue, claimed_at, settled_at, test
FROM batches
WHERE campaign = :campaign AND id > :after AND {where}
ORDER BY id LIMIT :limit;

-- name: numbers_of
SELECT batch, numbers FROM batch_numbers WHERE batch IN EACH(:batches::bigint);

-- name: exceptions_of
SELECT batch, number, state, mid FROM batch_exceptions WHERE batch IN EACH(:batches::bigint);

-- name: reports_on
SELECT mid, number, code, state, received_at, area, city FROM reports WHERE mid IN EACH(:mids::text);

-- name: left_out
SELECT seq, raw, reason, detail, source, line FROM left_out
WHERE campaign = :campaign AND seq > :after AND {where}
ORDER BY seq LIMIT :limit;
