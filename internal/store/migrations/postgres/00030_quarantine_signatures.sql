-- +goose Up
-- Which letters follow each other in what is searched, as bits: internal/store has why.
-- All bits are set where that is not known: such a message is looked at itself.
CREATE TABLE quarantine_signatures (
    message_id TEXT COLLATE "C" PRIMARY KEY REFERENCES quarantine_messages (id) ON DELETE CASCADE,
    s0 BIGINT NOT NULL DEFAULT -1,
    s1 BIGINT NOT NULL DEFAULT -1,
    s2 BIGINT NOT NULL DEFAULT -1,
    s3 BIGINT NOT NULL DEFAULT -1,
    s4 BIGINT NOT NULL DEFAULT -1,
    s5 BIGINT NOT NULL DEFAULT -1,
    s6 BIGINT NOT NULL DEFAULT -1,
    s7 BIGINT NOT NULL DEFAULT -1
);
INSERT INTO quarantine_signatures (message_id) SELECT id FROM quarantine_messages;

-- Nodes of the release before write no signatures, and may add to what is searched.
-- +goose StatementBegin
CREATE FUNCTION quarantine_unsigned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO quarantine_signatures (message_id) VALUES (NEW.id)
    ON CONFLICT (message_id) DO UPDATE SET s0 = -1, s1 = -1, s2 = -1, s3 = -1, s4 = -1, s5 = -1, s6 = -1, s7 = -1;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER quarantine_unsigned AFTER INSERT OR UPDATE OF search ON quarantine_messages
    FOR EACH ROW EXECUTE FUNCTION quarantine_unsigned();
