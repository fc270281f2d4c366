-- +goose Up
-- The history: events in segments of up to some hundred thousand. A segment is
-- written once; merging puts larger ones in the place of smaller ones. first and last
-- are the IDs of its first and last event, head says what is in its blobs. The id of
-- a blob is segment * 1048576 + its number. hours has the counts of an hour (Unix
-- seconds / 3600) as one node saw them.
CREATE TABLE history_segments (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    node   TEXT NOT NULL,
    first  TEXT NOT NULL,
    last   TEXT NOT NULL,
    events BIGINT NOT NULL,
    bytes  BIGINT NOT NULL,
    head   BLOB NOT NULL
);
CREATE TABLE history_blobs (
    id   INTEGER PRIMARY KEY,
    data BLOB NOT NULL
);
CREATE TABLE history_hours (
    hour BIGINT NOT NULL,
    node TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (hour, node)
);
