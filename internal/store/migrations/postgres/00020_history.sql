-- +goose Up
-- The history: events in segments of up to some hundred thousand. A segment is
-- written once; merging puts larger ones in the place of smaller ones. first and last
-- are the IDs of its first and last event, head says what is in its blobs. The id of
-- a blob is segment * 1048576 + its number. hours has the counts of an hour (Unix
-- seconds / 3600) as one node saw them.
CREATE TABLE history_segments (
    id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node   TEXT COLLATE "C" NOT NULL,
    first  TEXT COLLATE "C" NOT NULL,
    last   TEXT COLLATE "C" NOT NULL,
    events BIGINT NOT NULL,
    bytes  BIGINT NOT NULL,
    head   BYTEA NOT NULL
);
CREATE TABLE history_blobs (
    id   BIGINT PRIMARY KEY,
    data BYTEA NOT NULL
);
-- They are compressed already.
ALTER TABLE history_blobs ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE history_hours (
    hour BIGINT NOT NULL,
    node TEXT COLLATE "C" NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (hour, node)
);
