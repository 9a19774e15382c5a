-- The statements of the journal's first half, each under its name. A group of reports is one statement, which SQLite works
-- through without the interpreter's lock, and the event loop runs on meanwhile.

-- name: insert_reports
INSERT INTO reports (mid, mobile, code, state, port, area, city, received_at)
VALUES {rows}
ON CONFLICT (mid, mobile) DO NOTHING;

-- name: contradicting_reports
SELECT given.key
FROM json_each(:rows) AS given
JOIN reports ON reports.mid = json_extract(given.value, '$[0]') AND reports.mobile = json_extract(given.value, '$[1]')
WHERE reports.code <> json_extract(given.value, '$[2]')
ORDER BY given.key;

-- name: stored_report
SELECT code, state, received_at FROM reports WHERE mid = :mid AND mobile = :mobile;

-- name: delete_report
DELETE FROM reports WHERE mid = :mid AND mobile = :mobile;

-- name: keep_conflict
INSERT INTO report_conflicts (mid, mobile, code, times, first_at, last_at)
VALUES (:mid, :mobile, :code, 1, :at, :at)
ON CONFLICT (mid, mobile, code) DO UPDATE SET times = times + 1, last_at = excluded.last_at;

-- name: insert_reply
INSERT INTO replies (mid, mobile, digest, text, port, extno, area, city, received_at)
VALUES (:mid, :mobile, :digest, :text, :port, :extno, :area, :city, :at)
ON CONFLICT (mid, mobile, digest) DO NOTHING;

-- name: keep_raw
INSERT INTO raw_pushes (digest, query, body, flags, times, first_at, last_at)
VALUES (:digest, :query, :body, :flags, 1, :at, :at)
ON CONFLICT (digest) DO UPDATE SET times = times + 1, last_at = excluded.last_at;

-- name: suppress
INSERT INTO suppressions (number, reason, note, added_at)
SELECT value, :reason, :note, :at FROM json_each(:numbers)
WHERE TRUE
ON CONFLICT (number) DO NOTHING;

-- name: unsuppress
DELETE FROM suppressions WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: suppressions
SELECT number, reason, note, added_at FROM suppressions WHERE number > :after ORDER BY number LIMIT :limit;

-- name: suppressed_numbers
SELECT number FROM suppressions;

-- name: find_reports
SELECT mid, mobile, code, port, area, city, received_at
FROM json_each(:keys)
JOIN reports ON mid = json_extract(value, '$[0]') AND mobile = json_extract(value, '$[1]');

-- name: report_cursor
SELECT coalesce(max(seq), 0) FROM reports;

-- name: reply_cursor
SELECT coalesce(max(seq), 0) FROM replies;

-- name: reports
SELECT seq, mid, mobile, code, port, area, city, received_at FROM reports
WHERE seq > :after AND {filter}
ORDER BY seq LIMIT :limit;

-- name: replies
SELECT seq, mid, mobile, text, port, extno, area, city, received_at FROM replies
WHERE seq > :after AND {filter}
ORDER BY seq LIMIT :limit;

-- name: conflicts
SELECT mid, mobile, code, times, first_at, last_at FROM report_conflicts
WHERE {filter}
ORDER BY mid, mobile, code LIMIT :limit;

-- name: raw_pushes
SELECT seq, query, body, flags, times, first_at, last_at FROM raw_pushes
WHERE seq > :after
ORDER BY seq LIMIT :limit;
