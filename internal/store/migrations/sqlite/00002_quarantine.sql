-- +goose Up
-- complete is 0 while the body is being written.
CREATE TABLE quarantine_messages (
    id            TEXT PRIMARY KEY,
    complete      INTEGER NOT NULL,
    received      BIGINT NOT NULL,
    stored        BIGINT NOT NULL,
    size          BIGINT NOT NULL,
    node          TEXT NOT NULL,
    sender        TEXT NOT NULL,
    sender_key    TEXT NOT NULL,
    sender_domain TEXT NOT NULL,
    client        TEXT NOT NULL,
    helo          TEXT NOT NULL,
    listener      TEXT NOT NULL,
    direction     TEXT NOT NULL,
    subject       TEXT NOT NULL,
    subject_key   TEXT NOT NULL,
    message_id    TEXT NOT NULL,
    threat        TEXT NOT NULL,
    reason        TEXT NOT NULL,
    block         TEXT NOT NULL,
    rule          TEXT NOT NULL,
    flow          TEXT NOT NULL,
    score         REAL NOT NULL,
    search        TEXT NOT NULL
);
CREATE INDEX quarantine_messages_sender ON quarantine_messages (sender_key, id);
CREATE INDEX quarantine_messages_sender_domain ON quarantine_messages (sender_domain, id);
CREATE INDEX quarantine_messages_client ON quarantine_messages (client, id);
CREATE INDEX quarantine_messages_incomplete ON quarantine_messages (stored) WHERE complete = 0;

CREATE TABLE quarantine_envelopes (
    message_id TEXT PRIMARY KEY REFERENCES quarantine_messages (id) ON DELETE CASCADE,
    envelope   TEXT NOT NULL,
    scan       TEXT NOT NULL
);

CREATE TABLE quarantine_entries (
    message_id    TEXT NOT NULL REFERENCES quarantine_messages (id) ON DELETE CASCADE,
    recipient_key TEXT NOT NULL,
    recipient     TEXT NOT NULL,
    domain        TEXT NOT NULL,
    state         TEXT NOT NULL,
    threat        TEXT NOT NULL,
    reason        TEXT NOT NULL,
    block         TEXT NOT NULL,
    rule          TEXT NOT NULL,
    flow          TEXT NOT NULL,
    score         REAL NOT NULL,
    stored        BIGINT NOT NULL,
    changed       BIGINT NOT NULL,
    changed_by    TEXT NOT NULL,
    change_reason TEXT NOT NULL,
    PRIMARY KEY (message_id, recipient_key)
);
CREATE INDEX quarantine_entries_recipient ON quarantine_entries (recipient_key, message_id);
CREATE INDEX quarantine_entries_domain ON quarantine_entries (domain, message_id);
CREATE INDEX quarantine_entries_threat ON quarantine_entries (threat, state, message_id);
CREATE INDEX quarantine_entries_state ON quarantine_entries (state, message_id);
CREATE INDEX quarantine_entries_stored ON quarantine_entries (state, stored, recipient_key);

CREATE TABLE quarantine_chunks (
    message_id TEXT NOT NULL REFERENCES quarantine_messages (id) ON DELETE CASCADE,
    n          INTEGER NOT NULL,
    data       BLOB NOT NULL,
    PRIMARY KEY (message_id, n)
);
