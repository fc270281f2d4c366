-- +goose Up
-- What greylisting knows. kind says what a row is: 't' a triplet; 's' a source (a
-- network or an authenticated domain) of which triplets have passed; 'k' a sender
-- that somebody here has written to; 'a' what an administrator allowed. Fields
-- that a kind has no use for are ''. Times are Unix milliseconds; expires is 0 for
-- never. passes counts messages that passed, and for 's' triplets.
CREATE TABLE greylist (
    kind       TEXT COLLATE "C" NOT NULL,
    source     TEXT COLLATE "C" NOT NULL,
    sender     TEXT COLLATE "C" NOT NULL,
    recipient  TEXT COLLATE "C" NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen  BIGINT NOT NULL,
    passes     BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    note       TEXT NOT NULL,
    PRIMARY KEY (kind, source, sender, recipient)
);
CREATE INDEX greylist_expires ON greylist (expires) WHERE expires > 0;
