-- Single sends: batches of campaign 0.

-- A key with unknown numbers does not expire. What was not sent is not settled.
-- name: find_send
SELECT s.batch, s.digest, b.state, coalesce(b.settled_at, b.claimed_at) < NOW - :ttl AND b.unknown = 0
FROM sends AS s
JOIN batches AS b ON b.id = s.batch
WHERE s.key = :key AND s.current;

-- name: end_key
UPDATE sends SET current = FALSE WHERE batch = :batch;

-- name: send_message
INSERT INTO campaign_messages (campaign, digest, text, extno, addseqno, segments)
VALUES (0, :digest, :text, :extno, :addseqno, :segments)
ON CONFLICT (campaign, digest) DO UPDATE SET segments = excluded.segments
RETURNING id;

-- name: begin_send
INSERT INTO batches (campaign, message, state, count, token, attempts, claimed_at, lease_until)
VALUES (0, :message, 'sending', :count, :token, 1, NOW, NOW + :lease)
RETURNING id;

-- With a conflict that cannot be: PostgreSQL then needs no COPY for one row.
-- name: insert_send
INSERT INTO sends (batch, key, current, digest) VALUES (:batch, :key, TRUE, :digest)
ON CONFLICT (batch) DO NOTHING;

-- name: count_numbers
INSERT INTO send_numbers (number, at, batch)
VALUES (:number, (SELECT claimed_at FROM batches WHERE id = :batch), :batch)
ON CONFLICT (batch, number) DO UPDATE SET at = excluded.at, counted = TRUE;

-- name: uncount_numbers
UPDATE send_numbers SET counted = FALSE WHERE batch = :batch AND number IN EACH(:numbers::text);

-- name: recent_sends
SELECT number, NOW - at FROM send_numbers
WHERE number IN EACH(:numbers::text) AND counted AND at > NOW - :longest
ORDER BY at DESC;

-- The compare-and-set that only one process wins.
-- name: claim_send
UPDATE batches SET
    state = 'sending', token = :token, attempts = attempts + 1, claimed_at = NOW, lease_until = NOW + :lease,
    error = '', detail = ''
WHERE id = :batch AND state = 'planned';

-- name: release_send
UPDATE batches SET state = 'planned', error = :error, detail = :detail, unknown = 0, settled_at = NULL
WHERE id = :batch AND token = :token AND (state = 'sending' OR (state = 'unknown' AND error = 'LeaseExpired'));

-- name: keep_refusal
UPDATE sends SET refusal = :refusal WHERE batch = :batch;

-- name: sends
SELECT
    s.batch, s.key, b.state, n.numbers, b.mid, b.via_report, b.attempts, b.error, b.detail, b.claimed_at, b.settled_at,
    s.refusal
FROM sends AS s
JOIN batches AS b ON b.id = s.batch
JOIN batch_numbers AS n ON n.batch = s.batch
WHERE s.batch > :after AND {where}
ORDER BY s.batch LIMIT :limit;

-- name: reports_of
SELECT mid, number, code, port, area, city, received_at FROM reports WHERE mid IN EACH(:mids::text);
