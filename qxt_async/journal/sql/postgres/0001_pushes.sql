-- What the gateway pushed: status reports, replies, what could not be understood, and who wants no more texts.
-- Times are bigint microseconds since 1970, UTC. mid and mobile are text, never numbers (PROTOCOL 2, 4.4), and compared
-- byte by byte, as SQLite does.

-- The one clock of all machines. given is for whoever has to say what time it is: a test.
CREATE FUNCTION qxt.micros(given bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(given, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
$$;

-- One row a (mid, mobile), the key of a status report (PROTOCOL 4.4). seq grows with the order of commits: it is the
-- cursor of the feed. A sequence alone does not do that, so whoever draws from it holds the lock of the feeds (name:
-- lock_feeds) until the commit. A report that is superseded by another state is deleted and written anew, with a new
-- seq.
CREATE TABLE qxt.reports (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mid         text COLLATE "C" NOT NULL,
    mobile      text COLLATE "C" NOT NULL,
    code        text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    port        text,
    area        text,
    city        text,
    received_at bigint NOT NULL,
    UNIQUE (mid, mobile)
);

-- Codes that other pushes gave for a report whose code in reports is another one: refused or replaced.
CREATE TABLE qxt.report_conflicts (
    mid      text COLLATE "C" NOT NULL,
    mobile   text COLLATE "C" NOT NULL,
    code     text COLLATE "C" NOT NULL,
    times    integer NOT NULL,
    first_at bigint NOT NULL,
    last_at  bigint NOT NULL,
    PRIMARY KEY (mid, mobile, code)
);

-- digest is the SHA-256 of the text in hex: it belongs to the key, since a gateway that repeats a reply's mid must not
-- make a person's later "TD" disappear.
CREATE TABLE qxt.replies (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mid         text COLLATE "C" NOT NULL,
    mobile      text COLLATE "C" NOT NULL,
    digest      text COLLATE "C" NOT NULL,
    text        text NOT NULL,
    port        text,
    extno       text,
    area        text,
    city        text,
    received_at bigint NOT NULL,
    UNIQUE (mid, mobile, digest)
);

-- Pushes with a flag, as they came. digest is the SHA-256 of query and body in hex; the same bytes are kept once.
CREATE TABLE qxt.raw_pushes (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest   text COLLATE "C" NOT NULL UNIQUE,
    query    bytea NOT NULL,
    body     bytea NOT NULL,
    flags    text NOT NULL,
    times    integer NOT NULL,
    first_at bigint NOT NULL,
    last_at  bigint NOT NULL
);

CREATE TABLE qxt.suppressions (
    number   text COLLATE "C" PRIMARY KEY,
    reason   text NOT NULL CHECK (reason IN ('reply', 'manual', 'import')),
    note     text NOT NULL,
    added_at bigint NOT NULL
);

-- Whether somebody has opted out since a plan is asked at every claim.
CREATE INDEX suppressions_by_time ON qxt.suppressions (added_at);
