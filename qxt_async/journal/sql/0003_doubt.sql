-- A batch whose numbers are sent again since nobody knows whether they have the text: that it fails says nothing of the
-- first attempt, so its numbers stay unknown.
ALTER TABLE batches ADD COLUMN doubtful INTEGER NOT NULL DEFAULT 0;
