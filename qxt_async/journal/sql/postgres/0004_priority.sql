-- Whose batches workers take first: those of the campaign with the higher one.
ALTER TABLE qxt.campaigns ADD COLUMN priority integer NOT NULL DEFAULT 0;
