-- What a campaign's report draws: aggregates over its batches and their status reports, nothing that grows with it.
-- A mid belongs to the attempt that was made first, should two batches have it.

-- name: span
WITH mids AS ({mids})
SELECT min(at), max(at) FROM (
    SELECT settled_at AS at FROM batches WHERE campaign = :campaign AND mid IS NOT NULL
    UNION ALL
    SELECT min(reports.received_at) FROM mids JOIN reports ON reports.mid = mids.mid
    UNION ALL
    SELECT max(reports.received_at) FROM mids JOIN reports ON reports.mid = mids.mid
) AS moments;

-- name: mids
SELECT mid, min(sent_at) AS sent_at FROM (
    SELECT mid, claimed_at AS sent_at FROM batches WHERE campaign = :campaign AND mid IS NOT NULL
    UNION ALL
    SELECT e.mid, b.claimed_at FROM batch_exceptions AS e
    JOIN batches AS b ON b.id = e.batch
    WHERE e.mid IS NOT NULL AND b.campaign = :campaign
) AS known
GROUP BY mid;

-- name: accepted_over_time
SELECT settled_at / :width AS place, sum(accepted) FROM batches
WHERE campaign = :campaign AND accepted > 0 AND settled_at IS NOT NULL
GROUP BY place;

-- name: reports_over_time
WITH mids AS ({mids})
SELECT reports.received_at / :width AS place, reports.state, count(*)
FROM mids JOIN reports ON reports.mid = mids.mid
GROUP BY place, reports.state;

-- name: delays
WITH mids AS ({mids})
SELECT
    CASE WHEN reports.received_at > mids.sent_at THEN (reports.received_at - mids.sent_at) / 1000000 ELSE 0 END AS seconds,
    count(*)
FROM mids JOIN reports ON reports.mid = mids.mid
WHERE reports.state = 'delivered' AND mids.sent_at IS NOT NULL
GROUP BY seconds ORDER BY seconds;

-- name: areas
WITH mids AS ({mids})
SELECT coalesce(reports.area, ''), reports.state, count(*)
FROM mids JOIN reports ON reports.mid = mids.mid
GROUP BY 1, reports.state;

-- name: codes
WITH mids AS ({mids})
SELECT reports.code, reports.state, count(*)
FROM mids JOIN reports ON reports.mid = mids.mid
WHERE reports.state <> 'delivered'
GROUP BY reports.code, reports.state
ORDER BY count(*) DESC, reports.code LIMIT :limit;

-- name: troubles
SELECT state, error, count(*), sum(CASE state WHEN 'unknown' THEN unknown ELSE failed END) FROM batches
WHERE campaign = :campaign AND state IN ('failed', 'unknown')
    AND CASE state WHEN 'unknown' THEN unknown ELSE failed END > 0
GROUP BY state, error
ORDER BY 4 DESC, error LIMIT :limit;

-- name: segments
SELECT m.segments, sum(b.count) FROM batches AS b
JOIN campaign_messages AS m ON m.id = b.message
WHERE b.campaign = :campaign AND NOT b.resend
GROUP BY m.segments ORDER BY m.segments;

-- name: message_count
SELECT count(DISTINCT message), count(*) FILTER (WHERE via_report) FROM batches WHERE campaign = :campaign;
