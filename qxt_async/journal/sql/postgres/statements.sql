-- What PostgreSQL says differently, and its locks.

-- The first key of our locks spells QXT. The feeds' lock is held from before the first seq is drawn until the commit, so
-- that no reader sees a seq before a lower one. A statement of its own: what it waited for has to be seen by the next.
-- name: lock_feeds
SELECT pg_advisory_xact_lock(5331028, 1);

-- name: lock_reconciling
SELECT pg_advisory_xact_lock(5331028, 2);

-- name: lock_matching
SELECT pg_advisory_xact_lock(5331028, 3);

-- Who claims holds this lock together with others, who changes the campaign's state holds it alone: once a pause is
-- committed, nothing is claimed any more. Locks of rows would let a stream of claims keep the pause waiting for ever.
-- name: lock_for_claim
SELECT pg_advisory_xact_lock_shared(5331029, hashint8(CAST(:campaign AS bigint)));

-- Claims of one account are made one after the other.
-- name: lock_for_account
SELECT pg_advisory_xact_lock(5331032, hashtext(:account));

-- name: lock_for_order
SELECT pg_advisory_xact_lock(5331029, hashint8(CAST(:campaign AS bigint)));

-- name: hold_next
FOR UPDATE SKIP LOCKED;

-- name: hold_sources
FOR UPDATE OF b;

-- name: hold_confirmed
FOR UPDATE OF b, e;

-- From the row that is claimed: what stands in another one could be older.
-- name: its_numbers
numbers;

-- A group of reports is one JSON array of rows: no slower for the server than COPY into a table of its own and merging
-- from there (COPY into this one fails whole on one report that is known), and a third of the work for us that arrays
-- are. Of equal keys the first. ON CONFLICT and not NOT EXISTS: a plan from when the table was small reads all of it.
-- name: insert_reports
INSERT INTO reports (mid, number, code, state, port, area, city, first_at, received_at)
SELECT
    value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
    CAST(value ->> 7 AS bigint), CAST(value ->> 8 AS bigint)
FROM json_array_elements(CAST(:rows AS json)) WITH ORDINALITY AS given (value, place)
ORDER BY place
ON CONFLICT (mid, number) DO NOTHING;

-- name: reports_with_news
SELECT given.place - 1
FROM json_array_elements(CAST(:rows AS json)) WITH ORDINALITY AS given (value, place)
JOIN reports AS known ON known.mid = given.value ->> 0 AND known.number = given.value ->> 1
WHERE known.code <> given.value ->> 2
    OR known.received_at < CAST(given.value ->> 8 AS bigint) - CAST(:repeated AS bigint)
ORDER BY given.place;

-- name: find_reports
SELECT mid, number, code, port, area, city, received_at
FROM (
    SELECT value ->> 0 AS mid, value ->> 1 AS number FROM json_array_elements(CAST(:keys AS json)) AS given (value)
) AS wanted
JOIN reports USING (mid, number);

-- name: new_message_ids
SELECT nextval(pg_get_serial_sequence('campaign_messages', 'id')) FROM generate_series(1, :count);

-- name: new_batch_ids
SELECT nextval(pg_get_serial_sequence('batches', 'id')) FROM generate_series(1, :count);

-- name: insert_batches
INSERT INTO batches (id, campaign, message, state, count, resend, doubtful, test, numbers)
VALUES (:id, :campaign, :message, :state, :count, :resend, :doubtful, :test, :numbers);

-- Whoever asks for a key, and whoever counts the texts of a phone, waits for the others that do.
-- name: lock_for_key
SELECT pg_advisory_xact_lock(5331030, hashtext(:key));

-- name: lock_for_numbers
SELECT pg_advisory_xact_lock(5331031, key)
FROM (SELECT DISTINCT hashtext(value) AS key FROM EACH(:numbers::text) ORDER BY key) AS ordered;

-- name: begin_send
INSERT INTO batches (campaign, message, state, count, token, attempts, claimed_at, lease_until, numbers)
VALUES (0, :message, 'sending', :count, :token, 1, NOW, NOW + :lease, :numbers)
RETURNING id;
