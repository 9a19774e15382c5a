-- The statements of the journal's first half, each under its name.

-- The first key of our locks spells QXT. The feeds' lock is held from before the first seq is drawn until the commit, so
-- that no reader sees a seq before a lower one. A statement of its own: what it waited for has to be seen by the next.
-- name: lock_feeds
SELECT pg_advisory_xact_lock(5331028, 1);

-- A group of reports is one JSON array of rows: no slower for the server than COPY into a table of its own and merging
-- from there (COPY into this one fails whole on one report that is known), and a third of the work for us that arrays
-- are. Of equal keys the first. What is known already draws no seq.
-- name: insert_reports
INSERT INTO qxt.reports (mid, mobile, code, state, port, area, city, received_at)
SELECT mid, mobile, code, state, port, area, city, at
FROM (
    SELECT DISTINCT ON (mid, mobile) *
    FROM (
        SELECT
            (value ->> 0) COLLATE "C" AS mid, (value ->> 1) COLLATE "C" AS mobile, value ->> 2 AS code,
            value ->> 3 AS state, value ->> 4 AS port, value ->> 5 AS area, value ->> 6 AS city,
            (value ->> 7)::bigint AS at, place
        FROM json_array_elements(%(rows)s::json) WITH ORDINALITY AS given (value, place)
    ) AS report
    ORDER BY mid, mobile, place
) AS first
WHERE NOT EXISTS (
    SELECT FROM qxt.reports AS known WHERE known.mid = first.mid AND known.mobile = first.mobile
)
ORDER BY place;

-- name: contradicting_reports
SELECT given.place - 1
FROM json_array_elements(%(rows)s::json) WITH ORDINALITY AS given (value, place)
JOIN qxt.reports AS known ON known.mid = given.value ->> 0 AND known.mobile = given.value ->> 1
WHERE known.code <> given.value ->> 2
ORDER BY given.place;

-- name: stored_report
SELECT code, state, received_at FROM qxt.reports WHERE mid = %(mid)s AND mobile = %(mobile)s;

-- name: delete_report
DELETE FROM qxt.reports WHERE mid = %(mid)s AND mobile = %(mobile)s;

-- name: keep_conflict
INSERT INTO qxt.report_conflicts AS kept (mid, mobile, code, times, first_at, last_at)
VALUES (%(mid)s, %(mobile)s, %(code)s, 1, %(at)s, %(at)s)
ON CONFLICT (mid, mobile, code) DO UPDATE SET times = kept.times + 1, last_at = excluded.last_at;

-- name: tell
SELECT pg_notify('qxt_reports', '');

-- name: insert_reply
INSERT INTO qxt.replies (mid, mobile, digest, text, port, extno, area, city, received_at)
VALUES (
    %(mid)s, %(mobile)s, %(digest)s, %(text)s, %(port)s, %(extno)s, %(area)s, %(city)s, %(at)s
)
ON CONFLICT (mid, mobile, digest) DO NOTHING;

-- name: keep_raw
INSERT INTO qxt.raw_pushes AS kept (digest, query, body, flags, times, first_at, last_at)
VALUES (%(digest)s, %(query)s, %(body)s, %(flags)s, 1, %(at)s, %(at)s)
ON CONFLICT (digest) DO UPDATE SET times = kept.times + 1, last_at = excluded.last_at;

-- name: suppress
INSERT INTO qxt.suppressions (number, reason, note, added_at)
SELECT DISTINCT number, %(reason)s, %(note)s, %(at)s::bigint FROM unnest(%(numbers)s::text[]) AS given (number)
ORDER BY number
ON CONFLICT (number) DO NOTHING;

-- By number, as above: two transactions that write the same ones must not wait for each other.
-- name: opt_out
INSERT INTO qxt.suppressions (number, reason, note, added_at)
SELECT DISTINCT ON (number) number, 'reply', note, at
FROM unnest(%(numbers)s::text[], %(notes)s::text[], %(ats)s::bigint[]) WITH ORDINALITY AS given (number, note, at, place)
ORDER BY number, place
ON CONFLICT (number) DO NOTHING;

-- name: unsuppress
DELETE FROM qxt.suppressions WHERE number = ANY(%(numbers)s::text[]);

-- name: suppressions
SELECT number, reason, note, added_at FROM qxt.suppressions
WHERE number > %(after)s
ORDER BY number LIMIT %(limit)s;

-- name: suppressed_numbers
SELECT number FROM qxt.suppressions;

-- name: find_reports
SELECT mid, mobile, code, port, area, city, received_at
FROM unnest(%(mids)s::text[], %(mobiles)s::text[]) AS wanted (mid, mobile)
JOIN qxt.reports USING (mid, mobile);

-- name: report_cursor
SELECT coalesce(max(seq), 0) FROM qxt.reports;

-- name: reply_cursor
SELECT coalesce(max(seq), 0) FROM qxt.replies;

-- name: reports
SELECT seq, mid, mobile, code, port, area, city, received_at FROM qxt.reports
WHERE seq > %(after)s AND {filter}
ORDER BY seq LIMIT %(limit)s;

-- name: replies
SELECT seq, mid, mobile, text, port, extno, area, city, received_at FROM qxt.replies
WHERE seq > %(after)s AND {filter}
ORDER BY seq LIMIT %(limit)s;

-- name: conflicts
SELECT mid, mobile, code, times, first_at, last_at FROM qxt.report_conflicts
WHERE {filter}
ORDER BY mid, mobile, code LIMIT %(limit)s;

-- name: raw_pushes
SELECT seq, query, body, flags, times, first_at, last_at FROM qxt.raw_pushes
WHERE seq > %(after)s
ORDER BY seq LIMIT %(limit)s;
