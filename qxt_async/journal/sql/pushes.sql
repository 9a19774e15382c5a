-- What is written of pushes.

-- name: stored_report
SELECT code, state, first_at, received_at FROM reports WHERE mid = :mid AND number = :number;

-- name: report_again
UPDATE reports SET received_at = :at WHERE mid = :mid AND number = :number;

-- name: delete_report
DELETE FROM reports WHERE mid = :mid AND number = :number;

-- name: keep_conflict
INSERT INTO report_conflicts (mid, number, code, times, first_at, last_at)
VALUES (:mid, :number, :code, 1, :at, :at)
ON CONFLICT (mid, number, code) DO UPDATE SET times = report_conflicts.times + 1, last_at = excluded.last_at;

-- name: insert_reply
INSERT INTO replies (mid, number, digest, text, port, extno, area, city, received_at)
VALUES (:mid, :number, :digest, :text, :port, :extno, :area, :city, :at)
ON CONFLICT (mid, number, digest) DO NOTHING;

-- name: keep_raw
INSERT INTO raw_pushes (digest, query, body, flags, times, first_at, last_at)
VALUES (:digest, :query, :body, :flags, 1, :at, :at)
ON CONFLICT (digest) DO UPDATE SET times = raw_pushes.times + 1, last_at = excluded.last_at;

-- name: opt_out
INSERT INTO suppressions (number, reason, note, added_at) VALUES (:number, 'reply', :note, :at)
ON CONFLICT (number) DO NOTHING;
