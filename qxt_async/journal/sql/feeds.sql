-- What is read of pushes, and the suppression list.

-- name: reports
SELECT seq, mid, number, code, port, area, city, received_at FROM reports
WHERE seq > :after AND {where}
ORDER BY seq LIMIT :limit;

-- name: report_cursor
SELECT coalesce(max(seq), 0) FROM reports;

-- name: replies
SELECT seq, mid, number, text, port, extno, area, city, received_at FROM replies
WHERE seq > :after AND {where}
ORDER BY seq LIMIT :limit;

-- name: reply_cursor
SELECT coalesce(max(seq), 0) FROM replies;

-- name: conflicts
SELECT mid, number, code, times, first_at, last_at FROM report_conflicts
WHERE {where}
ORDER BY mid, number, code LIMIT :limit;

-- name: raw_pushes
SELECT seq, query, body, flags, times, first_at, last_at FROM raw_pushes
WHERE seq > :after
ORDER BY seq LIMIT :limit;

-- In the order of the numbers: two transactions that write the same ones must not wait for each other.
-- name: suppress
INSERT INTO suppressions (number, reason, note, added_at)
SELECT DISTINCT value, :reason, :note, CAST(:at AS bigint) FROM EACH(:numbers::text)
WHERE TRUE
ORDER BY value
ON CONFLICT (number) DO NOTHING;

-- name: unsuppress
DELETE FROM suppressions WHERE number IN EACH(:numbers::text);

-- name: suppressions
SELECT number, reason, note, added_at FROM suppressions WHERE number > :after ORDER BY number LIMIT :limit;

-- name: suppressed_numbers
SELECT number FROM suppressions;
