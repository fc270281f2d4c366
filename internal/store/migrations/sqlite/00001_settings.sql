-- +goose Up
CREATE TABLE settings (
    name    TEXT PRIMARY KEY,
    value   BLOB NOT NULL,
    changed BIGINT NOT NULL
);
