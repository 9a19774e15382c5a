-- Which status reports are on the numbers of a batch: those under its mids, but for the strays.

-- name: anything_to_match
SELECT
    (SELECT coalesce(max(seq), 0) FROM reports) > (SELECT cursor FROM matched)
    OR EXISTS (SELECT 1 FROM mids_to_match);

-- name: next_reports
SELECT seq, mid, number FROM reports WHERE seq > (SELECT cursor FROM matched) ORDER BY seq LIMIT :limit;

-- name: advance_matched
UPDATE matched SET cursor = :cursor;

-- name: batches_with_mids
SELECT id, mid FROM batches WHERE mid IN EACH(:mids::text)
UNION
SELECT batch, mid FROM batch_exceptions WHERE mid IN EACH(:mids::text);

-- name: batches_to_match
SELECT b.id, b.mid, n.numbers FROM batches AS b
JOIN batch_numbers AS n ON n.batch = b.id
WHERE b.id IN EACH(:batches::bigint);

-- name: keep_strays
INSERT INTO stray_reports (batch, mid, number) VALUES (:batch, :mid, :number)
ON CONFLICT (batch, mid, number) DO NOTHING;

-- name: forget_strays
DELETE FROM stray_reports WHERE batch = :batch AND mid = :mid;

-- The mids of a batch that reports have come under, since they or its numbers are other ones by now.
-- name: match_again
INSERT INTO mids_to_match (batch, mid)
SELECT batch, mid FROM (
    SELECT id AS batch, mid FROM batches WHERE id = :batch AND mid IS NOT NULL
    UNION
    SELECT batch, mid FROM batch_exceptions WHERE batch = :batch AND mid IS NOT NULL
) AS its
WHERE EXISTS (SELECT 1 FROM reports WHERE reports.mid = its.mid);

-- name: next_mids
SELECT seq, batch, mid FROM mids_to_match ORDER BY seq LIMIT :limit;

-- name: forget_mids
DELETE FROM mids_to_match WHERE seq IN EACH(:looked_at::bigint);

-- name: reports_under
SELECT mid, number FROM reports WHERE mid IN EACH(:mids::text);

-- What a campaign's deliveries are counted from. The export says the same of each number (rows.number_records): a
-- batch whose numbers are another one's by now says nothing, and a report that was last heard before its attempt is on
-- something else that had this mid.
-- name: its_reports
SELECT reports.code, reports.state, reports.area, reports.received_at, mids.sent_at
FROM (
    SELECT id AS batch, mid, claimed_at AS sent_at FROM batches
    WHERE campaign = :campaign AND mid IS NOT NULL AND successor IS NULL
    UNION
    SELECT e.batch, e.mid, b.claimed_at FROM batch_exceptions AS e
    JOIN batches AS b ON b.id = e.batch
    WHERE e.mid IS NOT NULL AND b.campaign = :campaign
) AS mids
JOIN reports ON reports.mid = mids.mid AND reports.received_at >= mids.sent_at - :clock_step
WHERE NOT EXISTS (
    SELECT 1 FROM stray_reports AS stray
    WHERE stray.batch = mids.batch AND stray.mid = mids.mid AND stray.number = reports.number
);

-- name: deliveries
SELECT state, count(*) FROM ({its_reports}) AS its GROUP BY state;
