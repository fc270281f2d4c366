-- +goose Up
-- One row for each key and day (days since 1970, UTC), so that what was seen can
-- be weighed by its age when it is read, and forgotten by deleting old days.
CREATE TABLE reputation (
    name    TEXT COLLATE "C" NOT NULL,
    day     INTEGER NOT NULL,
    ham     BIGINT NOT NULL,
    spam    BIGINT NOT NULL,
    virus   BIGINT NOT NULL,
    unknown BIGINT NOT NULL,
    PRIMARY KEY (name, day)
);
CREATE INDEX reputation_day ON reputation (day);
