-- Campaigns: what is to be sent, what was, and what became of it. Times are bigint microseconds since 1970, UTC.

-- changed_at moves with every addition to a plan; one that has not moved for long was broken off. sources and warnings
-- are JSON arrays. The counts are those of the plan.
CREATE TABLE qxt.campaigns (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    state      text NOT NULL CHECK (state IN ('planning', 'planned', 'running', 'paused', 'done', 'cancelled')),
    reason     text NOT NULL DEFAULT '',
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL,
    numbers    bigint NOT NULL DEFAULT 0,
    batches    bigint NOT NULL DEFAULT 0,
    credits    bigint NOT NULL DEFAULT 0,
    invalid    bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    suppressed bigint NOT NULL DEFAULT 0,
    balance    bigint,
    sources    text NOT NULL DEFAULT '[]',
    warnings   text NOT NULL DEFAULT '[]'
);

-- Texts with how they are sent, each once in a campaign. digest is the SHA-256 of text, extno and addseqno in hex.
CREATE TABLE qxt.campaign_messages (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign bigint NOT NULL REFERENCES qxt.campaigns (id) ON DELETE CASCADE,
    digest   text COLLATE "C" NOT NULL,
    text     text NOT NULL,
    extno    text,
    addseqno boolean NOT NULL,
    segments integer NOT NULL,
    UNIQUE (campaign, digest)
);

-- The state of a batch is that of its numbers, but for those with a row in batch_exceptions. Once it is settled,
-- accepted + failed + unknown + suppressed + superseded = count; before, all but suppressed are 0.
-- token is the attempt's: who has it may say what became of it. successor is the batch in which a person had all of its
-- numbers sent again; resend marks such a batch. unsent counts attempts that provably sent nothing. account is who sends
-- it, where that account has limits. numbers are joined by commas.
CREATE TABLE qxt.batches (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign    bigint NOT NULL REFERENCES qxt.campaigns (id) ON DELETE CASCADE,
    message     bigint NOT NULL,
    state       text COLLATE "C" NOT NULL
        CHECK (state IN ('planned', 'sending', 'accepted', 'failed', 'unknown', 'withdrawn')),
    count       integer NOT NULL,
    accepted    integer NOT NULL DEFAULT 0,
    failed      integer NOT NULL DEFAULT 0,
    unknown     integer NOT NULL DEFAULT 0,
    suppressed  integer NOT NULL DEFAULT 0,
    superseded  integer NOT NULL DEFAULT 0,
    mid         text COLLATE "C",
    via_report  boolean NOT NULL DEFAULT false,
    token       text COLLATE "C",
    attempts    integer NOT NULL DEFAULT 0,
    unsent      integer NOT NULL DEFAULT 0,
    error       text NOT NULL DEFAULT '',
    detail      text NOT NULL DEFAULT '',
    resend      boolean NOT NULL DEFAULT false,
    successor   bigint,
    overdue     boolean NOT NULL DEFAULT false,
    not_before  bigint NOT NULL DEFAULT 0,
    claimed_at  bigint,
    lease_until bigint,
    settled_at  bigint,
    account     text COLLATE "C",
    numbers     text NOT NULL
);

-- What is longer than 2 kB stands outside of the row, which is written several times; packing it would cost more than
-- the disk is worth.
ALTER TABLE qxt.batches ALTER COLUMN numbers SET STORAGE EXTERNAL;

CREATE INDEX batches_by_state ON qxt.batches (campaign, state, id);
CREATE INDEX batches_by_mid ON qxt.batches (mid) WHERE mid IS NOT NULL;
-- Few at any time: what an account is sending is counted at each of its claims.
CREATE INDEX batches_by_account ON qxt.batches (account) WHERE state = 'sending';
CREATE INDEX batches_in_doubt ON qxt.batches (id) WHERE state IN ('sending', 'unknown') AND mid IS NULL;

-- Numbers of a batch of which something else is true than of the batch; successor as in batches.
CREATE TABLE qxt.batch_exceptions (
    batch     bigint NOT NULL REFERENCES qxt.batches (id) ON DELETE CASCADE,
    number    text COLLATE "C" NOT NULL,
    state     text NOT NULL CHECK (state IN ('accepted', 'failed', 'unknown', 'suppressed', 'superseded')),
    mid       text COLLATE "C",
    successor bigint,
    PRIMARY KEY (batch, number)
);

CREATE INDEX batch_exceptions_by_mid ON qxt.batch_exceptions (mid) WHERE mid IS NOT NULL;

-- Numbers of the sources that are in no batch.
CREATE TABLE qxt.left_out (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign bigint NOT NULL REFERENCES qxt.campaigns (id) ON DELETE CASCADE,
    raw      text NOT NULL,
    reason   text NOT NULL CHECK (reason IN ('invalid', 'duplicate', 'suppressed')),
    detail   text NOT NULL,
    source   text NOT NULL,
    line     bigint NOT NULL
);

CREATE INDEX left_out_by_campaign ON qxt.left_out (campaign, seq);

-- What was done to a campaign, by whom.
CREATE TABLE qxt.campaign_events (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign bigint NOT NULL REFERENCES qxt.campaigns (id) ON DELETE CASCADE,
    at       bigint NOT NULL,
    what     text NOT NULL,
    by       text NOT NULL,
    detail   text NOT NULL,
    count    bigint NOT NULL
);

CREATE INDEX campaign_events_by_campaign ON qxt.campaign_events (campaign, seq);

-- Reconciling: how far the reports are read, and mids under which numbers of unknown batches were reported although no
-- batch has them.
CREATE TABLE qxt.reconciled (
    cursor bigint NOT NULL
);

INSERT INTO qxt.reconciled (cursor) VALUES (0);

CREATE TABLE qxt.orphan_mids (
    mid text COLLATE "C" PRIMARY KEY
);
