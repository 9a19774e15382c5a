-- A batch whose numbers are sent again since nobody knows whether they have the text: that it fails says nothing of the
-- first attempt, so its numbers stay unknown.
ALTER TABLE qxt.batches ADD COLUMN doubtful boolean NOT NULL DEFAULT false;
