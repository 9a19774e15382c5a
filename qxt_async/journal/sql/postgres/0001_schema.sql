-- The one clock of all machines; a test may give the time.
CREATE FUNCTION micros(given bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(given, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
$$;

-- In the row of the batch, so that a claim reads them from the row that it locks: another row could be older than the
-- lock. PostgreSQL stores more than 2 kB outside of the row; packing would cost more than the disk is worth.
ALTER TABLE batches ADD COLUMN numbers text NOT NULL;
ALTER TABLE batches ALTER COLUMN numbers SET STORAGE EXTERNAL;
CREATE VIEW batch_numbers AS SELECT id AS batch, numbers FROM batches;

CREATE INDEX batches_in_doubt ON batches (id) WHERE state IN ('sending', 'unknown') AND mid IS NULL;

INSERT INTO campaigns (id, name, state, created_at, changed_at) OVERRIDING SYSTEM VALUE VALUES (0, '', 'done', 0, 0);
