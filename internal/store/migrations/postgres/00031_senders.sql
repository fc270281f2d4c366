-- +goose Up
-- Senders that are allowed or blocked. owner is whose list it is: an address, '@' and a
-- domain for all addresses there, or '' for everybody. pattern is an address, or '@' and
-- a domain for its addresses and those of the domains below it. kind is 'a' for allowed,
-- 'b' for blocked. added is in Unix milliseconds.
CREATE TABLE senders (
    owner    TEXT COLLATE "C" NOT NULL,
    pattern  TEXT COLLATE "C" NOT NULL,
    kind     TEXT COLLATE "C" NOT NULL,
    note     TEXT NOT NULL,
    added_by TEXT NOT NULL,
    added    BIGINT NOT NULL,
    PRIMARY KEY (owner, pattern)
);
