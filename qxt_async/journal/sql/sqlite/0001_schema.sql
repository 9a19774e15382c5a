-- What the gateway pushed: status reports, replies, what could not be understood, and who wants no more texts.
-- Times are integer microseconds since 1970, UTC. mid and number are text, never numbers (PROTOCOL 2, 4.4). What is part
-- of a key has a length: an index of PostgreSQL holds 2,700 bytes a row.

-- One row a (mid, number), the key of a status report (PROTOCOL 4.4). seq grows with the order of commits: it is the
-- cursor of the feed. A report that is superseded by another state is deleted and written anew, with a new seq, so
-- AUTOINCREMENT is meant: a seq must not come twice. first_at is when the key was first reported, with whatever code: it
-- counts as evidence. received_at is when the present code last came; a repeat within an hour does not move it.
CREATE TABLE reports (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    mid         TEXT NOT NULL,
    number      TEXT NOT NULL,
    code        TEXT NOT NULL,
    state       TEXT NOT NULL,
    port        TEXT,
    area        TEXT,
    city        TEXT,
    first_at    INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    UNIQUE (mid, number),
    CHECK (length(mid) <= 256 AND length(number) <= 256 AND length(code) <= 256)
);

-- Codes that other pushes gave for a report whose code in reports is another one: refused or replaced.
CREATE TABLE report_conflicts (
    mid      TEXT NOT NULL,
    number   TEXT NOT NULL,
    code     TEXT NOT NULL,
    times    INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    PRIMARY KEY (mid, number, code),
    CHECK (length(code) <= 256)
);

-- digest is the SHA-256 of the text in hex: it belongs to the key, since a gateway that repeats a reply's mid must not
-- make a person's later "TD" disappear.
CREATE TABLE replies (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    mid         TEXT NOT NULL,
    number      TEXT NOT NULL,
    digest      TEXT NOT NULL,
    text        TEXT NOT NULL,
    port        TEXT,
    extno       TEXT,
    area        TEXT,
    city        TEXT,
    received_at INTEGER NOT NULL,
    UNIQUE (mid, number, digest),
    CHECK (length(mid) <= 256 AND length(number) <= 256)
);

-- Pushes with a flag, as they came. digest is the SHA-256 of query and body in hex; the same bytes are kept once.
CREATE TABLE raw_pushes (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    digest   TEXT NOT NULL UNIQUE,
    query    BLOB NOT NULL,
    body     BLOB NOT NULL,
    flags    TEXT NOT NULL,
    times    INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL
);

CREATE TABLE suppressions (
    number   TEXT PRIMARY KEY,
    reason   TEXT NOT NULL CHECK (reason IN ('reply', 'manual', 'import')),
    note     TEXT NOT NULL,
    added_at INTEGER NOT NULL
);

-- Whether somebody has opted out since a plan is asked at every claim.
CREATE INDEX suppressions_by_time ON suppressions (added_at);

-- Campaigns: what is to be sent, what was, and what became of it. Times are integer microseconds since 1970, UTC.

-- changed_at moves with every addition to a plan; one that has not moved for long was broken off. sources and warnings
-- are JSON arrays. The counts are those of the plan. Workers take the batches of the campaign with the higher priority
-- first. on_workers says that its last run was left to them.
CREATE TABLE campaigns (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('planning', 'planned', 'running', 'paused', 'done', 'cancelled')),
    reason     TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    numbers    INTEGER NOT NULL DEFAULT 0,
    batches    INTEGER NOT NULL DEFAULT 0,
    credits    INTEGER NOT NULL DEFAULT 0,
    invalid    INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    suppressed INTEGER NOT NULL DEFAULT 0,
    balance    INTEGER,
    priority   INTEGER NOT NULL DEFAULT 0,
    on_workers INTEGER NOT NULL DEFAULT 0,
    sources    TEXT NOT NULL DEFAULT '[]',
    warnings   TEXT NOT NULL DEFAULT '[]'
);

-- Texts with how they are sent, each once in a campaign. digest is the SHA-256 of text, extno and addseqno in hex.
CREATE TABLE campaign_messages (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    campaign INTEGER NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
    digest   TEXT NOT NULL,
    text     TEXT NOT NULL,
    extno    TEXT,
    addseqno INTEGER NOT NULL,
    segments INTEGER NOT NULL,
    UNIQUE (campaign, digest)
);

-- The state of a batch is that of its numbers, but for those with a row in batch_exceptions. Once it is settled,
-- accepted + failed + unknown + suppressed + superseded = count; before, all but suppressed are 0.
-- token is the attempt's: who has it may say what became of it. successor is the batch in which a person had all of its
-- numbers sent again; resend marks such a batch, and doubtful one whose numbers may have the text already. unsent counts
-- attempts that provably sent nothing. account is who sends it, where that account has limits.
CREATE TABLE batches (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    campaign    INTEGER NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
    message     INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('planned', 'sending', 'accepted', 'failed', 'unknown', 'withdrawn')),
    count       INTEGER NOT NULL,
    accepted    INTEGER NOT NULL DEFAULT 0,
    failed      INTEGER NOT NULL DEFAULT 0,
    unknown     INTEGER NOT NULL DEFAULT 0,
    suppressed  INTEGER NOT NULL DEFAULT 0,
    superseded  INTEGER NOT NULL DEFAULT 0,
    mid         TEXT,
    via_report  INTEGER NOT NULL DEFAULT 0,
    token       TEXT,
    attempts    INTEGER NOT NULL DEFAULT 0,
    unsent      INTEGER NOT NULL DEFAULT 0,
    error       TEXT NOT NULL DEFAULT '',
    detail      TEXT NOT NULL DEFAULT '',
    resend      INTEGER NOT NULL DEFAULT 0,
    doubtful    INTEGER NOT NULL DEFAULT 0,
    successor   INTEGER,
    overdue     INTEGER NOT NULL DEFAULT 0,
    not_before  INTEGER NOT NULL DEFAULT 0,
    claimed_at  INTEGER,
    lease_until INTEGER,
    settled_at  INTEGER,
    test        INTEGER NOT NULL DEFAULT 0,
    account     TEXT
);

CREATE INDEX batches_by_state ON batches (campaign, state, id);
CREATE INDEX batches_by_mid ON batches (mid) WHERE mid IS NOT NULL;
-- One or a few: whether a test is open is asked at each claim.
CREATE INDEX batches_tested ON batches (campaign, state) WHERE test > 0;
-- Few: answers that did not mention every number.
CREATE INDEX batches_in_part ON batches (id) WHERE state = 'accepted' AND unknown + superseded > 0;
-- Few at any time: what an account is sending is counted at each of its claims.
CREATE INDEX batches_by_account ON batches (account) WHERE account IS NOT NULL AND state = 'sending';

-- Apart from its batch, whose row is written several times: SQLite writes a row anew as a whole. Joined by commas.
CREATE TABLE batch_numbers (
    batch   INTEGER PRIMARY KEY REFERENCES batches (id) ON DELETE CASCADE,
    numbers TEXT NOT NULL
);

-- Numbers of a batch of which something else is true than of the batch; successor as in batches.
CREATE TABLE batch_exceptions (
    batch     INTEGER NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    number    TEXT NOT NULL,
    state     TEXT NOT NULL CHECK (state IN ('accepted', 'failed', 'unknown', 'suppressed', 'superseded')),
    mid       TEXT,
    successor INTEGER,
    PRIMARY KEY (batch, number)
);

CREATE INDEX batch_exceptions_by_mid ON batch_exceptions (mid) WHERE mid IS NOT NULL;

-- Numbers of the sources that are in no batch.
CREATE TABLE left_out (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    campaign INTEGER NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
    raw      TEXT NOT NULL,
    reason   TEXT NOT NULL CHECK (reason IN ('invalid', 'duplicate', 'suppressed')),
    detail   TEXT NOT NULL,
    source   TEXT NOT NULL,
    line     INTEGER NOT NULL
);

CREATE INDEX left_out_by_campaign ON left_out (campaign, seq);

-- What was done to a campaign, by whom.
CREATE TABLE campaign_events (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    campaign INTEGER NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
    at       INTEGER NOT NULL,
    what     TEXT NOT NULL,
    by       TEXT NOT NULL,
    detail   TEXT NOT NULL,
    count    INTEGER NOT NULL
);

CREATE INDEX campaign_events_by_campaign ON campaign_events (campaign, seq);

-- Reconciling: how far the reports are read, and mids under which numbers of unknown batches were reported although no
-- recorded send has them.
CREATE TABLE reconciled (
    cursor INTEGER NOT NULL
);

INSERT INTO reconciled (cursor) VALUES (0);

CREATE TABLE orphan_mids (
    mid TEXT PRIMARY KEY
);

-- Mids that recorded sends received and no batch shows, since the batch has another outcome: reports under them bind
-- nothing.
CREATE TABLE known_mids (
    mid TEXT PRIMARY KEY
);

-- Which reports are on a batch's numbers (matching.py): how far the reports are read; phones reported under a mid of a
-- batch that did not send to them under it; mids of batches that have to be looked at again.
CREATE TABLE matched (
    cursor INTEGER NOT NULL
);

INSERT INTO matched (cursor) VALUES (0);

CREATE TABLE stray_reports (
    batch  INTEGER NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    mid    TEXT NOT NULL,
    number TEXT NOT NULL,
    PRIMARY KEY (batch, mid, number)
) WITHOUT ROWID;

CREATE TABLE mids_to_match (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    batch INTEGER NOT NULL,
    mid   TEXT NOT NULL
);

-- What an account may do, for all processes together; NULL is no limit. free_at are the times, in microseconds since
-- 1970, from which on the next request, the next number, may leave.
CREATE TABLE limits (
    account          TEXT PRIMARY KEY,
    max_request_rate REAL CHECK (max_request_rate > 0),
    max_rate         REAL CHECK (max_rate > 0),
    max_concurrency  INTEGER CHECK (max_concurrency > 0),
    requests_free_at INTEGER NOT NULL DEFAULT 0,
    numbers_free_at  INTEGER NOT NULL DEFAULT 0
);
