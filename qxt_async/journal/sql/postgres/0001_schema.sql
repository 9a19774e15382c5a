-- What the gateway pushed: status reports, replies, what could not be understood, and who wants no more texts.
-- Times are bigint microseconds since 1970, UTC. mid and number are text, never numbers (PROTOCOL 2, 4.4), and compared
-- byte by byte, as SQLite does. What is part of a key has a length: an index holds 2,700 bytes a row. The schema is that
-- of the search path.

-- The one clock of all machines. given is for whoever has to say what time it is: a test.
CREATE FUNCTION micros(given bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(given, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
$$;

-- One row a (mid, number), the key of a status report (PROTOCOL 4.4). seq grows with the order of commits: it is the
-- cursor of the feed. A sequence alone does not do that, so whoever draws from it holds the lock of the feeds (name:
-- lock_feeds) until the commit. A report that is superseded by another state is deleted and written anew, with a new
-- seq. first_at is when the key was first reported, with whatever code: it counts as evidence. received_at is when the
-- present code last came; a repeat within an hour does not move it.
CREATE TABLE reports (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mid         text COLLATE "C" NOT NULL,
    number      text COLLATE "C" NOT NULL,
    code        text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    port        text,
    area        text,
    city        text,
    first_at    bigint NOT NULL,
    received_at bigint NOT NULL,
    UNIQUE (mid, number),
    CHECK (length(mid) <= 256 AND length(number) <= 256 AND length(code) <= 256)
);

-- Codes that other pushes gave for a report whose code in reports is another one: refused or replaced.
CREATE TABLE report_conflicts (
    mid      text COLLATE "C" NOT NULL,
    number   text COLLATE "C" NOT NULL,
    code     text COLLATE "C" NOT NULL,
    times    integer NOT NULL,
    first_at bigint NOT NULL,
    last_at  bigint NOT NULL,
    PRIMARY KEY (mid, number, code),
    CHECK (length(code) <= 256)
);

-- digest is the SHA-256 of the text in hex: it belongs to the key, since a gateway that repeats a reply's mid must not
-- make a person's later "TD" disappear.
CREATE TABLE replies (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mid         text COLLATE "C" NOT NULL,
    number      text COLLATE "C" NOT NULL,
    digest      text COLLATE "C" NOT NULL,
    text        text NOT NULL,
    port        text,
    extno       text,
    area        text,
    city        text,
    received_at bigint NOT NULL,
    UNIQUE (mid, number, digest),
    CHECK (length(mid) <= 256 AND length(number) <= 256)
);

-- Pushes with a flag, as they came. digest is the SHA-256 of query and body in hex; the same bytes are kept once.
CREATE TABLE raw_pushes (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest   text COLLATE "C" NOT NULL UNIQUE,
    query    bytea NOT NULL,
    body     bytea NOT NULL,
    flags    text NOT NULL,
    times    integer NOT NULL,
    first_at bigint NOT NULL,
    last_at  bigint NOT NULL
);

CREATE TABLE suppressions (
    number   text COLLATE "C" PRIMARY KEY,
    reason   text NOT NULL CHECK (reason IN ('reply', 'manual', 'import')),
    note     text NOT NULL,
    added_at bigint NOT NULL
);

-- Whether somebody has opted out since a plan is asked at every claim.
CREATE INDEX suppressions_by_time ON suppressions (added_at);

-- Campaigns: what is to be sent, what was, and what became of it. Times are bigint microseconds since 1970, UTC.

-- changed_at moves with every addition to a plan; one that has not moved for long was broken off. sources and warnings
-- are JSON arrays. The counts are those of the plan. Workers take the batches of the campaign with the higher priority
-- first. on_workers says that its last run was left to them.
CREATE TABLE campaigns (
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
    priority   integer NOT NULL DEFAULT 0,
    on_workers integer NOT NULL DEFAULT 0,
    sources    text NOT NULL DEFAULT '[]',
    warnings   text NOT NULL DEFAULT '[]'
);

-- Texts with how they are sent, each once in a campaign. digest is the SHA-256 of text, extno and addseqno in hex.
CREATE TABLE campaign_messages (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign bigint NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
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
-- numbers sent again; resend marks such a batch, and doubtful one whose numbers may have the text already. unsent counts
-- attempts that provably sent nothing. account is who sends it, where that account has limits. numbers are joined by
-- commas.
CREATE TABLE batches (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign    bigint NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
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
    doubtful    boolean NOT NULL DEFAULT false,
    successor   bigint,
    overdue     boolean NOT NULL DEFAULT false,
    not_before  bigint NOT NULL DEFAULT 0,
    claimed_at  bigint,
    lease_until bigint,
    settled_at  bigint,
    test        integer NOT NULL DEFAULT 0,
    account     text COLLATE "C",
    numbers     text NOT NULL
);

-- What is longer than 2 kB stands outside of the row, which is written several times; packing it would cost more than
-- the disk is worth.
ALTER TABLE batches ALTER COLUMN numbers SET STORAGE EXTERNAL;

CREATE INDEX batches_by_state ON batches (campaign, state, id);
CREATE INDEX batches_by_mid ON batches (mid) WHERE mid IS NOT NULL;
-- One or a few: whether a test is open is asked at each claim.
CREATE INDEX batches_tested ON batches (campaign, state) WHERE test > 0;
-- Few: answers that did not mention every number.
CREATE INDEX batches_in_part ON batches (id) WHERE state = 'accepted' AND unknown + superseded > 0;
-- Few at any time: what an account is sending is counted at each of its claims.
CREATE INDEX batches_by_account ON batches (account) WHERE account IS NOT NULL AND state = 'sending';
CREATE INDEX batches_in_doubt ON batches (id) WHERE state IN ('sending', 'unknown') AND mid IS NULL;

-- As a table beside the batches, which it is in SQLite. A claim reads the numbers from the row that it locks instead:
-- what stands in another row could be older than the lock.
CREATE VIEW batch_numbers AS SELECT id AS batch, numbers FROM batches;

-- Numbers of a batch of which something else is true than of the batch; successor as in batches.
CREATE TABLE batch_exceptions (
    batch     bigint NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    number    text COLLATE "C" NOT NULL,
    state     text NOT NULL CHECK (state IN ('accepted', 'failed', 'unknown', 'suppressed', 'superseded')),
    mid       text COLLATE "C",
    successor bigint,
    PRIMARY KEY (batch, number)
);

CREATE INDEX batch_exceptions_by_mid ON batch_exceptions (mid) WHERE mid IS NOT NULL;

-- Numbers of the sources that are in no batch.
CREATE TABLE left_out (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign bigint NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
    raw      text NOT NULL,
    reason   text NOT NULL CHECK (reason IN ('invalid', 'duplicate', 'suppressed')),
    detail   text NOT NULL,
    source   text NOT NULL,
    line     bigint NOT NULL
);

CREATE INDEX left_out_by_campaign ON left_out (campaign, seq);

-- What was done to a campaign, by whom.
CREATE TABLE campaign_events (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign bigint NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
    at       bigint NOT NULL,
    what     text NOT NULL,
    by       text NOT NULL,
    detail   text NOT NULL,
    count    bigint NOT NULL
);

CREATE INDEX campaign_events_by_campaign ON campaign_events (campaign, seq);

-- Reconciling: how far the reports are read, and mids under which numbers of unknown batches were reported although no
-- recorded send has them.
CREATE TABLE reconciled (
    cursor bigint NOT NULL
);

INSERT INTO reconciled (cursor) VALUES (0);

CREATE TABLE orphan_mids (
    mid text COLLATE "C" PRIMARY KEY
);

-- Mids that recorded sends received and no batch shows, since the batch has another outcome: reports under them bind
-- nothing.
CREATE TABLE known_mids (
    mid text COLLATE "C" PRIMARY KEY
);

-- Which reports are on a batch's numbers (matching.py): how far the reports are read; phones reported under a mid of a
-- batch that did not send to them under it; mids of batches that have to be looked at again.
CREATE TABLE matched (
    cursor bigint NOT NULL
);

INSERT INTO matched (cursor) VALUES (0);

CREATE TABLE stray_reports (
    batch  bigint NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    mid    text COLLATE "C" NOT NULL,
    number text COLLATE "C" NOT NULL,
    PRIMARY KEY (batch, mid, number)
);

CREATE TABLE mids_to_match (
    seq   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch bigint NOT NULL,
    mid   text COLLATE "C" NOT NULL
);

-- What an account may do, for all processes together; NULL is no limit. Whoever claims for the account locks its row.
-- free_at are the times, in microseconds since 1970, from which on the next request, the next number, may leave.
CREATE TABLE limits (
    account          text COLLATE "C" PRIMARY KEY,
    max_request_rate double precision CHECK (max_request_rate > 0),
    max_rate         double precision CHECK (max_rate > 0),
    max_concurrency  integer CHECK (max_concurrency > 0),
    requests_free_at bigint NOT NULL DEFAULT 0,
    numbers_free_at  bigint NOT NULL DEFAULT 0
);
