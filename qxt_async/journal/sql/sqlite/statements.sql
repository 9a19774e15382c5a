-- What SQLite says differently.

-- A group of reports is one statement, which SQLite works through without the interpreter's lock, and the event loop
-- runs on meanwhile.
-- name: insert_reports
INSERT INTO reports (mid, number, code, state, port, area, city, first_at, received_at)
VALUES {rows}
ON CONFLICT (mid, number) DO NOTHING;

-- name: reports_with_news
SELECT given.key
FROM json_each(:rows) AS given
JOIN reports ON reports.mid = json_extract(given.value, '$[0]') AND reports.number = json_extract(given.value, '$[1]')
WHERE reports.code <> json_extract(given.value, '$[2]')
    OR reports.received_at < json_extract(given.value, '$[8]') - :repeated
ORDER BY given.key;

-- name: find_reports
SELECT mid, number, code, port, area, city, received_at
FROM json_each(:keys)
JOIN reports ON mid = json_extract(value, '$[0]') AND number = json_extract(value, '$[1]');

-- name: new_message_ids
WITH RECURSIVE places (place) AS (SELECT 1 UNION ALL SELECT place + 1 FROM places WHERE place < :count)
SELECT place + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'campaign_messages'), 0) FROM places;

-- name: new_batch_ids
WITH RECURSIVE places (place) AS (SELECT 1 UNION ALL SELECT place + 1 FROM places WHERE place < :count)
SELECT place + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'batches'), 0) FROM places;

-- name: insert_batches
INSERT INTO batches (id, campaign, message, state, count, resend, doubtful, test)
VALUES (:id, :campaign, :message, :state, :count, :resend, :doubtful, :test);
INSERT INTO batch_numbers (batch, numbers) VALUES (:id, :numbers);

-- name: insert_send
INSERT INTO sends (batch, key, current, digest) VALUES (:batch, :key, TRUE, :digest);
INSERT INTO batch_numbers (batch, numbers) VALUES (:batch, :numbers);

-- One connection writes at a time: nothing has to be held.
-- name: hold_next
-- name: hold_sources
-- name: hold_confirmed
