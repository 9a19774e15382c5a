-- What a campaign's report draws: aggregates over its batches and their status reports, nothing that grows with it.

-- name: span
SELECT min(at), max(at) FROM (
    SELECT settled_at AS at FROM batches WHERE campaign = :campaign AND mid IS NOT NULL
    UNION ALL
    SELECT received_at FROM ({its_reports}) AS its
) AS moments;

-- name: accepted_over_time
SELECT settled_at / :width AS place, sum(accepted) FROM batches
WHERE campaign = :campaign AND accepted > 0 AND settled_at IS NOT NULL
GROUP BY place;

-- name: reports_over_time
SELECT received_at / :width AS place, state, count(*) FROM ({its_reports}) AS its
GROUP BY place, state;

-- name: delays
SELECT CASE WHEN received_at > sent_at THEN (received_at - sent_at) / 1000000 ELSE 0 END AS seconds, count(*)
FROM ({its_reports}) AS its
WHERE state = 'delivered'
GROUP BY seconds ORDER BY seconds;

-- name: areas
SELECT coalesce(area, ''), state, count(*) FROM ({its_reports}) AS its
GROUP BY 1, state;

-- name: codes
SELECT code, state, count(*) FROM ({its_reports}) AS its
WHERE state <> 'delivered'
GROUP BY code, state
ORDER BY count(*) DESC, code LIMIT :limit;

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
