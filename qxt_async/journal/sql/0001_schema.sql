-- What the gateway pushed: status reports, replies, what was not understood; and the suppression list.
-- Times are microseconds since 1970, UTC. mid and number are text, never numbers (PROTOCOL 2, 4.4). What is part of a key
-- has a length: an index of PostgreSQL holds 2,700 bytes a row.

-- One row a (mid, number), the key of a status report (PROTOCOL 4.4). seq grows in the order of commits: it is the cursor
-- of the feed. PostgreSQL draws it under a lock (name: lock_feeds), since a sequence alone does not keep that order. A
-- report that is superseded by another state is deleted and inserted with a new seq, and no seq may come twice. first_at
-- is when the key was first reported, with whatever code: it counts as evidence. received_at is when the present code
-- last came; a repeat within an hour does not move it.
CREATE TABLE reports (
    seq         SERIAL_KEY,
    mid         KEY_TEXT NOT NULL,
    number      KEY_TEXT NOT NULL,
    code        KEY_TEXT NOT NULL,
    state       KEY_TEXT NOT NULL,
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
    mid      KEY_TEXT NOT NULL,
    number   KEY_TEXT NOT NULL,
    code     KEY_TEXT NOT NULL,
    times    integer NOT NULL,
    first_at bigint NOT NULL,
    last_at  bigint NOT NULL,
    PRIMARY KEY (mid, number, code),
    CHECK (length(code) <= 256)
);

-- digest is the SHA-256 of the text in hex: it belongs to the key, since a gateway that repeats a reply's mid must not
-- make a person's later "TD" disappear.
CREATE TABLE replies (
    seq         SERIAL_KEY,
    mid         KEY_TEXT NOT NULL,
    number      KEY_TEXT NOT NULL,
    digest      KEY_TEXT NOT NULL,
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
    seq      SERIAL_KEY,
    digest   KEY_TEXT NOT NULL UNIQUE,
    query    BYTES NOT NULL,
    body     BYTES NOT NULL,
    flags    text NOT NULL,
    times    integer NOT NULL,
    first_at bigint NOT NULL,
    last_at  bigint NOT NULL
);

CREATE TABLE suppressions (
    number   KEY_TEXT PRIMARY KEY,
    reason   text NOT NULL CHECK (reason IN ('reply', 'manual', 'import')),
    note     text NOT NULL,
    added_at bigint NOT NULL
);

-- Each claim asks whether somebody has opted out since the plan.
CREATE INDEX suppressions_by_time ON suppressions (added_at);

-- changed_at moves with every addition to a plan; a plan that has not moved for long was broken off. sources and warnings
-- are JSON arrays. The counts are those of the plan. Workers take the batches of the campaign with the higher priority
-- first. on_workers says that its last run was left to them.
CREATE TABLE campaigns (
    id         SERIAL_KEY,
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
    id       SERIAL_KEY,
    campaign bigint NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
    digest   KEY_TEXT NOT NULL,
    text     text NOT NULL,
    extno    text,
    addseqno boolean NOT NULL,
    segments integer NOT NULL,
    UNIQUE (campaign, digest)
);

-- The state of a batch is that of its numbers, except for those with a row in batch_exceptions. Once it is settled,
-- accepted + failed + unknown + suppressed + superseded = count; before, all but suppressed are 0.
-- token is the attempt's: who has it may write the outcome. successor is the batch in which a person had all of its
-- numbers sent again; resend marks such a batch, and doubtful one whose numbers may have the text already. unsent counts
-- attempts that provably sent nothing. account is who sends it, if that account has limits. Its numbers, joined by
-- commas, are in batch_numbers.
CREATE TABLE batches (
    id          SERIAL_KEY,
    campaign    bigint NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
    message     bigint NOT NULL,
    state       KEY_TEXT NOT NULL
        CHECK (state IN ('planned', 'sending', 'accepted', 'failed', 'unknown', 'withdrawn')),
    count       integer NOT NULL,
    accepted    integer NOT NULL DEFAULT 0,
    failed      integer NOT NULL DEFAULT 0,
    unknown     integer NOT NULL DEFAULT 0,
    suppressed  integer NOT NULL DEFAULT 0,
    superseded  integer NOT NULL DEFAULT 0,
    mid         KEY_TEXT,
    via_report  boolean NOT NULL DEFAULT FALSE,
    token       KEY_TEXT,
    attempts    integer NOT NULL DEFAULT 0,
    unsent      integer NOT NULL DEFAULT 0,
    error       text NOT NULL DEFAULT '',
    detail      text NOT NULL DEFAULT '',
    resend      boolean NOT NULL DEFAULT FALSE,
    doubtful    boolean NOT NULL DEFAULT FALSE,
    successor   bigint,
    overdue     boolean NOT NULL DEFAULT FALSE,
    not_before  bigint NOT NULL DEFAULT 0,
    claimed_at  bigint,
    lease_until bigint,
    settled_at  bigint,
    test        integer NOT NULL DEFAULT 0,
    account     KEY_TEXT
);

CREATE INDEX batches_by_state ON batches (campaign, state, test DESC, id);
CREATE INDEX batches_by_mid ON batches (mid) WHERE mid IS NOT NULL;
-- One row or a few: each claim asks whether a test is open. With state, so that SQLite prefers it to batches_by_state.
CREATE INDEX batches_tested ON batches (campaign, state) WHERE test > 0;
-- Few rows: answers that did not mention every number.
CREATE INDEX batches_in_part ON batches (id) WHERE state = 'accepted' AND unknown + superseded > 0;
-- Few rows at any time: each claim for an account counts what the account is sending.
CREATE INDEX batches_by_account ON batches (account) WHERE account IS NOT NULL AND state = 'sending';

-- Numbers of a batch that differ from it; successor as in batches.
CREATE TABLE batch_exceptions (
    batch     bigint NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    number    KEY_TEXT NOT NULL,
    state     text NOT NULL CHECK (state IN ('accepted', 'failed', 'unknown', 'suppressed', 'superseded')),
    mid       KEY_TEXT,
    successor bigint,
    PRIMARY KEY (batch, number)
);

CREATE INDEX batch_exceptions_by_mid ON batch_exceptions (mid) WHERE mid IS NOT NULL;

-- Numbers of the sources that are in no batch.
CREATE TABLE left_out (
    seq      SERIAL_KEY,
    campaign bigint NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
    raw      text NOT NULL,
    reason   text NOT NULL CHECK (reason IN ('invalid', 'duplicate', 'suppressed')),
    detail   text NOT NULL,
    source   text NOT NULL,
    line     bigint NOT NULL
);

CREATE INDEX left_out_by_campaign ON left_out (campaign, seq);

CREATE TABLE campaign_events (
    seq      SERIAL_KEY,
    campaign bigint NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
    at       bigint NOT NULL,
    what     text NOT NULL,
    actor    text NOT NULL,
    detail   text NOT NULL,
    count    bigint NOT NULL
);

CREATE INDEX campaign_events_by_campaign ON campaign_events (campaign, seq);

-- Reconciling: how far the reports are read; mids that reports on numbers of unknown batches have, although no recorded
-- send has them; and mids that recorded sends received although their batch has another outcome: those bind nothing.
CREATE TABLE reconciled (cursor bigint NOT NULL);

INSERT INTO reconciled (cursor) VALUES (0);

CREATE TABLE orphan_mids (mid KEY_TEXT PRIMARY KEY);

CREATE TABLE known_mids (mid KEY_TEXT PRIMARY KEY);

-- Which reports are on a batch's numbers (matching.py): how far the reports are read; phones reported under a mid of a
-- batch that did not send to them under it; mids of batches to be looked at again.
CREATE TABLE matched (cursor bigint NOT NULL);

INSERT INTO matched (cursor) VALUES (0);

CREATE TABLE stray_reports (
    batch  bigint NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    mid    KEY_TEXT NOT NULL,
    number KEY_TEXT NOT NULL,
    PRIMARY KEY (batch, mid, number)
);

CREATE TABLE mids_to_match (
    seq   SERIAL_KEY,
    batch bigint NOT NULL,
    mid   KEY_TEXT NOT NULL
);

-- The limits of an account, for all processes together; NULL is no limit. free_at is when the next request, or the next
-- number, may leave. A claim for the account locks its row.
CREATE TABLE limits (
    account          KEY_TEXT PRIMARY KEY,
    max_request_rate double precision CHECK (max_request_rate > 0),
    max_rate         double precision CHECK (max_rate > 0),
    max_concurrency  integer CHECK (max_concurrency > 0),
    requests_free_at bigint NOT NULL DEFAULT 0,
    numbers_free_at  bigint NOT NULL DEFAULT 0
);

-- Single sends: each is a batch of campaign 0, which holds nothing else and is never run. key is the caller's idempotency
-- key, NULL without one; current, whether the key still means this send. digest is the SHA-256 of numbers, text, extno
-- and addseqno in hex. refusal is what the error of the outcome is made of again, JSON.
CREATE TABLE sends (
    batch   bigint PRIMARY KEY REFERENCES batches (id) ON DELETE CASCADE,
    key     KEY_TEXT,
    current boolean NOT NULL,
    digest  KEY_TEXT NOT NULL,
    refusal text
);

CREATE UNIQUE INDEX sends_by_key ON sends (key) WHERE current;

-- When the phones of single sends got a text, for limits per phone; counted is false if they did not.
CREATE TABLE send_numbers (
    number  KEY_TEXT NOT NULL,
    at      bigint NOT NULL,
    batch   bigint NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    counted boolean NOT NULL DEFAULT TRUE,
    PRIMARY KEY (batch, number)
);

CREATE INDEX send_numbers_by_number ON send_numbers (number, at);
