-- What an account may do, for all processes together; NULL is no limit. Whoever claims for the account locks its row.
-- free_at are the times, in microseconds since 1970, from which on the next request, the next number, may leave.
CREATE TABLE qxt.limits (
    account          text COLLATE "C" PRIMARY KEY,
    max_request_rate double precision CHECK (max_request_rate > 0),
    max_rate         double precision CHECK (max_rate > 0),
    max_concurrency  integer CHECK (max_concurrency > 0),
    requests_free_at bigint NOT NULL DEFAULT 0,
    numbers_free_at  bigint NOT NULL DEFAULT 0
);
