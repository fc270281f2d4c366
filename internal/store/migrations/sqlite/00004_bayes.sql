-- +goose Up

-- One row, locked by whoever learns: generations are committed in their order.
-- The epoch changes when rows were removed, so that nodes load everything again.
CREATE TABLE bayes_state (
	id         INTEGER PRIMARY KEY CHECK (id = 1),
	generation BIGINT  NOT NULL,
	epoch      BIGINT  NOT NULL
);
INSERT INTO bayes_state (id, generation, epoch) VALUES (1, 0, 0);

-- ham and spam are how many messages of each were learned.
CREATE TABLE bayes_scopes (
	id    INTEGER PRIMARY KEY,
	name  TEXT    NOT NULL UNIQUE,
	ham   BIGINT  NOT NULL,
	spam  BIGINT  NOT NULL,
	since BIGINT  NOT NULL,
	last  BIGINT  NOT NULL
);

-- token is a hash; seen is the day (since 1970) on which it was last learned.
CREATE TABLE bayes_tokens (
	token BIGINT  NOT NULL,
	scope INTEGER NOT NULL,
	ham   INTEGER NOT NULL,
	spam  INTEGER NOT NULL,
	seen  INTEGER NOT NULL,
	PRIMARY KEY (token, scope)
) WITHOUT ROWID;

-- Which messages were learned, and with which tokens, so that it can be undone.
-- tokens is NULL for old ones.
CREATE TABLE bayes_messages (
	scope      INTEGER NOT NULL,
	digest     BLOB    NOT NULL,
	spam       INTEGER NOT NULL,
	generation BIGINT  NOT NULL,
	tokens     BLOB,
	PRIMARY KEY (scope, digest)
);
CREATE INDEX bayes_messages_by_generation ON bayes_messages (generation);

-- What the newest generations changed, for the memory of other nodes.
CREATE TABLE bayes_log (
	generation BIGINT  NOT NULL,
	n          INTEGER NOT NULL,
	scope      INTEGER NOT NULL,
	ham        INTEGER NOT NULL,
	spam       INTEGER NOT NULL,
	changes    BLOB    NOT NULL,
	PRIMARY KEY (generation, n)
);

-- +goose Down
DROP TABLE bayes_log;
DROP TABLE bayes_messages;
DROP TABLE bayes_tokens;
DROP TABLE bayes_scopes;
DROP TABLE bayes_state;
