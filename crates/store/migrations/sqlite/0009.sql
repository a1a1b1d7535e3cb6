-- The chunks of the files of vector stores. The chunks of a set never change once it is complete: a
-- file that is read again gets another set, with a number that no set had before.
CREATE TABLE chunk_sets (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    store BIGINT NOT NULL REFERENCES objects (seq) ON DELETE CASCADE,
    file BIGINT NOT NULL UNIQUE REFERENCES objects (seq) ON DELETE CASCADE,
    is_complete BIGINT NOT NULL,
    -- About how many bytes of the database they take.
    bytes BIGINT NOT NULL
);
CREATE INDEX chunk_sets_of_a_store ON chunk_sets (store);

CREATE TABLE chunks (
    seq INTEGER PRIMARY KEY,
    chunk_set BIGINT NOT NULL REFERENCES chunk_sets (seq) ON DELETE CASCADE,
    -- That of its set, for the index of words.
    store BIGINT NOT NULL,
    number BIGINT NOT NULL,
    -- Numbers of 32 bits, little-endian. Encrypted where `sealed` is not NULL.
    vector BLOB NOT NULL,
    body TEXT NOT NULL,
    sealed BLOB,
    UNIQUE (chunk_set, number)
);

-- The words of the chunks that are not encrypted.
CREATE VIRTUAL TABLE chunk_words USING fts5 (
    store, body, content = 'chunks', content_rowid = 'seq',
    tokenize = 'unicode61 remove_diacritics 2'
);
-- Deleted words are overwritten, not only unlinked.
INSERT INTO chunk_words (chunk_words, rank) VALUES ('secure-delete', 1);
CREATE TRIGGER add_words AFTER INSERT ON chunks WHEN NEW.sealed IS NULL BEGIN
    INSERT INTO chunk_words (rowid, store, body) VALUES (NEW.seq, NEW.store, NEW.body);
END;
CREATE TRIGGER delete_words AFTER DELETE ON chunks WHEN OLD.sealed IS NULL BEGIN
    INSERT INTO chunk_words (chunk_words, rowid, store, body)
        VALUES ('delete', OLD.seq, OLD.store, OLD.body);
END;
