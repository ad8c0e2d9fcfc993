-- One life of a room: its name may be used again later.
CREATE TABLE meetings (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    room          TEXT NOT NULL,
    kind          TEXT NOT NULL,
    languages     TEXT NOT NULL, -- a JSON array
    started_at_ms INTEGER NOT NULL,
    ended_at_ms   INTEGER
) STRICT;
CREATE INDEX meetings_by_room ON meetings (room, id);

-- Names of utterances begin anew with each process, and a meeting never outlives one: together with
-- the meeting they are unique.
CREATE TABLE utterances (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    meeting       INTEGER NOT NULL REFERENCES meetings (id) ON DELETE CASCADE,
    utterance     TEXT NOT NULL,
    speaker       TEXT NOT NULL,
    speaker_name  TEXT NOT NULL,
    language      TEXT NOT NULL,
    text          TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms   INTEGER NOT NULL,
    UNIQUE (meeting, utterance)
) STRICT;
CREATE INDEX utterances_in_order ON utterances (meeting, started_at_ms, id);
CREATE INDEX utterances_by_age ON utterances (ended_at_ms);

CREATE TABLE translations (
    utterance  INTEGER NOT NULL REFERENCES utterances (id) ON DELETE CASCADE,
    language   TEXT NOT NULL,
    text       TEXT NOT NULL,
    translator TEXT NOT NULL,
    PRIMARY KEY (utterance, language)
) STRICT, WITHOUT ROWID;
