-- What the gateway pushed: status reports, replies, what could not be understood, and who wants no more texts.
-- Times are integer microseconds since 1970, UTC. mid and mobile are text, never numbers (PROTOCOL 2, 4.4).

-- One row a (mid, mobile), the key of a status report (PROTOCOL 4.4). seq grows with the order of commits: it is the
-- cursor of the feed. A report that is superseded by another state is deleted and written anew, with a new seq, so
-- AUTOINCREMENT is meant: a seq must not come twice.
CREATE TABLE reports (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    mid         TEXT NOT NULL,
    mobile      TEXT NOT NULL,
    code        TEXT NOT NULL,
    state       TEXT NOT NULL,
    port        TEXT,
    area        TEXT,
    city        TEXT,
    received_at INTEGER NOT NULL,
    UNIQUE (mid, mobile)
);

-- Codes that other pushes gave for a report whose code in reports is another one: refused or replaced.
CREATE TABLE report_conflicts (
    mid      TEXT NOT NULL,
    mobile   TEXT NOT NULL,
    code     TEXT NOT NULL,
    times    INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    PRIMARY KEY (mid, mobile, code)
);

-- digest is the SHA-256 of the text in hex: it belongs to the key, since a gateway that repeats a reply's mid must not
-- make a person's later "TD" disappear.
CREATE TABLE replies (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    mid         TEXT NOT NULL,
    mobile      TEXT NOT NULL,
    digest      TEXT NOT NULL,
    text        TEXT NOT NULL,
    port        TEXT,
    extno       TEXT,
    area        TEXT,
    city        TEXT,
    received_at INTEGER NOT NULL,
    UNIQUE (mid, mobile, digest)
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
