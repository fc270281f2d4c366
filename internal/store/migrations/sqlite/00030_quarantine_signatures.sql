-- +goose Up
-- Which letters follow each other in what is searched, as bits: internal/store has why.
-- All bits are set where that is not known: such a message is looked at itself.
CREATE TABLE quarantine_signatures (
    message_id TEXT PRIMARY KEY REFERENCES quarantine_messages (id) ON DELETE CASCADE,
    s0 BIGINT NOT NULL DEFAULT -1,
    s1 BIGINT NOT NULL DEFAULT -1,
    s2 BIGINT NOT NULL DEFAULT -1,
    s3 BIGINT NOT NULL DEFAULT -1,
    s4 BIGINT NOT NULL DEFAULT -1,
    s5 BIGINT NOT NULL DEFAULT -1,
    s6 BIGINT NOT NULL DEFAULT -1,
    s7 BIGINT NOT NULL DEFAULT -1
) WITHOUT ROWID;
INSERT INTO quarantine_signatures (message_id) SELECT id FROM quarantine_messages;
