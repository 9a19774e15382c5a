-- What accounts may do.

-- name: limits
SELECT max_request_rate, max_rate, max_concurrency FROM limits WHERE account = :account;

-- name: set_limits
INSERT INTO limits AS known (account, max_request_rate, max_rate, max_concurrency)
VALUES (:account, :max_request_rate, :max_rate, :max_concurrency)
ON CONFLICT (account) DO UPDATE SET
    max_request_rate = excluded.max_request_rate, max_rate = excluded.max_rate,
    max_concurrency = excluded.max_concurrency,
    requests_free_at = CASE known.max_request_rate WHEN excluded.max_request_rate THEN known.requests_free_at ELSE 0 END,
    numbers_free_at = CASE known.max_rate WHEN excluded.max_rate THEN known.numbers_free_at ELSE 0 END;

-- name: unset_limits
DELETE FROM limits WHERE account = :account;

-- Nobody else changes them before the commit.
-- name: used_limits
SELECT
    max_request_rate, max_rate, max_concurrency, requests_free_at, numbers_free_at,
    CASE WHEN max_concurrency IS NULL THEN 0 ELSE (
        SELECT count(*) FROM batches WHERE account = :account AND state = 'sending'
    ) END,
    NOW
FROM limits WHERE account = :account;

-- name: spend
UPDATE limits SET requests_free_at = :requests_free_at, numbers_free_at = :numbers_free_at WHERE account = :account;
