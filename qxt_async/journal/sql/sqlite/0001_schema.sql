-- In a table of their own, since SQLite rewrites a row as a whole, and that of a batch is written several times.
CREATE TABLE batch_numbers (
    batch   integer PRIMARY KEY REFERENCES batches (id) ON DELETE CASCADE,
    numbers text NOT NULL
);

INSERT INTO campaigns (id, name, state, created_at, changed_at) VALUES (0, '', 'done', 0, 0);
