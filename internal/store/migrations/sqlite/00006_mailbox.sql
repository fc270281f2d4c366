-- +goose Up
-- What was judged of messages that lie in mailboxes, so that a client that leaves its
-- mail on the server does not have it judged at each fetch. message is the ID under
-- which history and quarantine have it; judged is JSON (mail.Judged). held is 1 where
-- the quarantine has the original. Times are Unix milliseconds; seen is when somebody
-- asked for it the last time, to the hour.
CREATE TABLE mailbox (
    server  TEXT NOT NULL,
    account TEXT NOT NULL,
    uidl    TEXT NOT NULL,
    message TEXT NOT NULL,
    held    BIGINT NOT NULL,
    seen    BIGINT NOT NULL,
    judged  BLOB NOT NULL,
    PRIMARY KEY (server, account, uidl)
);
CREATE INDEX mailbox_message ON mailbox (message) WHERE held = 1;
CREATE INDEX mailbox_seen ON mailbox (seen);
