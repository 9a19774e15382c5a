-- Batches: claims and their outcomes.

-- The compare-and-set that only one process wins. If a back-off seems longer than any can be, the clock was set back.
-- The suppressions have a day of leeway for the clock. A test batch comes before all others; the order says so, too, and
-- only batches_by_state has it: by id alone, PostgreSQL would walk through all that was sent before.
-- name: claim
UPDATE batches SET
    state = 'sending', token = :token, attempts = attempts + 1, claimed_at = NOW, lease_until = NOW + :lease,
    error = '', detail = '', account = :account
WHERE state = 'planned' AND id = (
    SELECT id FROM batches
    WHERE campaign = :campaign AND state = 'planned' AND (not_before <= NOW OR not_before > NOW + :leeway)
        AND EXISTS (SELECT 1 FROM campaigns WHERE id = :campaign AND state = 'running')
        AND NOT EXISTS (SELECT 1 FROM limits WHERE account = :unlimited)
        AND (test > 0 OR NOT EXISTS (
            SELECT 1 FROM batches AS t WHERE t.campaign = :campaign AND t.test > 0 AND t.state IN ('planned', 'sending')
        ))
    ORDER BY test DESC, id LIMIT 1
    {hold_next}
)
RETURNING
    id, unsent, doubtful, test, {its_numbers},
    (SELECT text FROM campaign_messages WHERE id = batches.message),
    (SELECT extno FROM campaign_messages WHERE id = batches.message),
    (SELECT addseqno FROM campaign_messages WHERE id = batches.message),
    EXISTS (
        SELECT 1 FROM suppressions
        WHERE added_at >= (SELECT created_at - 86400000000 FROM campaigns WHERE id = :campaign)
    );

-- name: its_numbers
(SELECT numbers FROM batch_numbers WHERE batch = batches.id);

-- name: opted_out
SELECT number FROM suppressions WHERE number IN EACH(:numbers::text);

-- name: suppress_all
UPDATE batches SET
    state = CASE WHEN doubtful THEN 'unknown' ELSE 'failed' END,
    unknown = CASE WHEN doubtful THEN count ELSE 0 END,
    suppressed = CASE WHEN doubtful THEN 0 ELSE count END, error = 'Suppressed', settled_at = NOW,
    detail = 'all of its numbers opted out after the plan'
WHERE id = :batch;

-- name: suppress_some
UPDATE batches SET suppressed = :count WHERE id = :batch;

-- name: put_exceptions
INSERT INTO batch_exceptions (batch, number, state, mid, successor)
VALUES (:batch, :number, :state, :mid, :successor)
ON CONFLICT (batch, number) DO UPDATE SET
    state = excluded.state, mid = excluded.mid, successor = excluded.successor;

-- name: forget_exceptions
DELETE FROM batch_exceptions WHERE batch = :batch;

-- An outcome that the attempt itself wrote stays: a late "unknown" must not undo what reports have shown since. A
-- definite answer is better evidence than reports. All other numbers are unknown, including those that opted out
-- before a second attempt.
-- name: settle
UPDATE batches SET
    state = :state, mid = :mid, via_report = FALSE, error = :error, detail = :detail, settled_at = NOW, unsent = 0,
    accepted = CASE WHEN successor IS NULL THEN :accepted ELSE 0 END,
    failed = CASE WHEN successor IS NULL THEN :failed ELSE 0 END,
    unknown = CASE WHEN successor IS NULL THEN count - suppressed - superseded - :accepted - :failed ELSE 0 END
WHERE id = :batch AND token = :token AND (
    state = 'sending' OR (state = 'unknown' AND error = 'LeaseExpired') OR (via_report AND :state <> 'unknown')
)
RETURNING
    successor,
    EXISTS (SELECT 1 FROM reports WHERE reports.mid = :mid)
    OR EXISTS (SELECT 1 FROM batch_exceptions AS e WHERE e.batch = :batch AND e.mid IS NOT NULL);

-- Mids that recorded sends received and that no batch shows, since the batch has another outcome. Nothing is bound to
-- them.
-- name: know_mids
INSERT INTO known_mids (mid) SELECT value FROM EACH(:mids::text) WHERE TRUE ON CONFLICT (mid) DO NOTHING;

-- name: recount
UPDATE batches SET
    accepted = :accepted, failed = :failed,
    unknown = count - suppressed - :accepted - :failed
WHERE id = :batch;

-- name: release
UPDATE batches SET
    state = 'planned', unsent = unsent + :counted, error = :error, detail = :detail,
    not_before = CASE WHEN :delay > 0 THEN NOW + :delay ELSE 0 END,
    unknown = 0, suppressed = 0, settled_at = NULL, account = NULL
WHERE id = :batch AND token = :token AND superseded = 0
    AND (state = 'sending' OR (state = 'unknown' AND error = 'LeaseExpired'));

-- name: give_up
UPDATE batches SET
    state = CASE WHEN doubtful THEN 'unknown' ELSE 'failed' END,
    unsent = unsent + :counted, error = :error, detail = :detail, settled_at = NOW,
    unknown = CASE WHEN superseded = 0 AND doubtful THEN count - suppressed ELSE 0 END,
    failed = CASE WHEN superseded = 0 AND NOT doubtful THEN count - suppressed ELSE 0 END
WHERE id = :batch AND token = :token AND (state = 'sending' OR (state = 'unknown' AND error = 'LeaseExpired'));

-- name: find_claim
SELECT id FROM batches WHERE campaign = :campaign AND state = 'sending' AND token = :token;

-- If a lease seems to begin in the future, the clock was set back.
-- name: expire_leases
UPDATE batches SET
    state = 'unknown', unknown = count - suppressed, settled_at = NOW, error = 'LeaseExpired',
    detail = 'the process that sent it never said what became of it'
WHERE campaign = :campaign AND state = 'sending' AND (lease_until <= NOW OR claimed_at > NOW + :leeway)
    AND NOT (token IN EACH(:alive::text))
RETURNING test;

-- name: withdraw_successor
UPDATE batches SET state = 'withdrawn'
WHERE state = 'planned' AND id = (SELECT successor FROM batches WHERE id = :batch);

-- name: own_again
UPDATE batches SET superseded = 0, successor = NULL WHERE id = :batch;

-- After a second attempt that failed, its numbers belong to the first one again.
-- name: fall_back
UPDATE batches SET superseded = 0, successor = NULL, unknown = count - suppressed
WHERE successor = :batch AND state = 'unknown'
    AND EXISTS (SELECT 1 FROM batches AS second WHERE second.id = :batch AND second.superseded = 0);

-- name: withdraw
UPDATE batches SET state = 'withdrawn', failed = 0, unknown = 0 WHERE id = :batch;

-- A cancelled campaign sends nothing a second time: what may have arrived at the first is unknown again.
-- name: drop_second_attempts
UPDATE batches SET
    state = 'unknown', unknown = count, error = 'Cancelled', detail = 'cancelled before it was sent again',
    settled_at = NOW
WHERE campaign = :campaign AND state = 'planned' AND doubtful
    AND EXISTS (SELECT 1 FROM campaigns WHERE id = :campaign AND state = 'cancelled')
RETURNING id;

-- name: has_test
SELECT
    EXISTS (
        SELECT 1 FROM batches
        WHERE campaign = :campaign AND test > 0 AND state IN ('planned', 'sending', 'accepted', 'unknown')
    ),
    EXISTS (SELECT 1 FROM batches WHERE campaign = :campaign AND test > 0 AND state = 'failed' AND failed > 0);

-- name: first_message
SELECT min(id) FROM campaign_messages WHERE campaign = :campaign;

-- Reads all numbers of the campaign, once, before the test.
-- name: batches_with
SELECT b.id, b.message, CASE WHEN b.successor IS NULL THEN b.state END, n.numbers, b.resend, b.test
FROM batches AS b
JOIN batch_numbers AS n ON n.batch = b.id
WHERE b.campaign = :campaign AND b.state <> 'withdrawn' AND EXISTS (
    SELECT 1 FROM EACH(:numbers::text)
    WHERE replace(',' || n.numbers || ',', ',' || value || ',', '') <> ',' || n.numbers || ','
)
ORDER BY b.id;

-- name: supersede_number
UPDATE batches SET failed = failed - 1, superseded = superseded + 1 WHERE id = :batch;

-- Testers who were in no batch are new to the plan. What is sent again is in it already.
-- name: recount_plan
UPDATE campaigns SET
    (numbers, batches, credits) = (
        SELECT coalesce(sum(b.count), 0), count(*), coalesce(sum(b.count * m.segments), 0)
        FROM batches AS b
        JOIN campaign_messages AS m ON m.id = b.message
        WHERE b.campaign = :campaign AND NOT b.resend AND b.state <> 'withdrawn'
    )
WHERE id = :campaign;
