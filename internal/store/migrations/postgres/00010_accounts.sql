-- +goose Up
-- Who may use the administration. name is folded; record is JSON of package
-- accounts; version counts changes, so that two at once are noticed.
CREATE TABLE accounts (
    name    TEXT COLLATE "C" PRIMARY KEY,
    version BIGINT NOT NULL,
    record  BYTEA NOT NULL
);
-- Sessions of browsers and tokens of programs (kind 's' and 't'). id is the SHA-256
-- of the secret. Times are Unix milliseconds; expires is 0 for never.
CREATE TABLE account_keys (
    id      TEXT COLLATE "C" PRIMARY KEY,
    kind    TEXT NOT NULL,
    account TEXT NOT NULL,
    record  BYTEA NOT NULL,
    created BIGINT NOT NULL,
    seen    BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX account_keys_account ON account_keys (account, kind, created);
CREATE INDEX account_keys_expires ON account_keys (expires) WHERE expires > 0;
-- Who did what. id orders the lines; it is made of the time.
CREATE TABLE audit (
    id      TEXT COLLATE "C" PRIMARY KEY,
    at      BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    client  TEXT NOT NULL,
    action  TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail  TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_actor ON audit (actor, id);
