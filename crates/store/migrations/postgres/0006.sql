-- The chunks of the files of vector stores. The chunks of a set never change once it is complete: a
-- file that is read again gets another set, with a number that no set had before.
CREATE TABLE chunk_sets (
    seq BIGSERIAL PRIMARY KEY,
    store BIGINT NOT NULL REFERENCES objects (seq) ON DELETE CASCADE,
    file BIGINT NOT NULL UNIQUE REFERENCES objects (seq) ON DELETE CASCADE,
    is_complete BIGINT NOT NULL,
    -- About how many bytes of the database they take.
    bytes BIGINT NOT NULL
);
CREATE INDEX chunk_sets_of_a_store ON chunk_sets (store);

CREATE TABLE chunks (
    seq BIGSERIAL PRIMARY KEY,
    chunk_set BIGINT NOT NULL REFERENCES chunk_sets (seq) ON DELETE CASCADE,
    -- That of its set, for the index of words.
    store BIGINT NOT NULL,
    number BIGINT NOT NULL,
    -- Numbers of 32 bits, little-endian. Encrypted where `sealed` is not NULL.
    vector BYTEA NOT NULL,
    body TEXT NOT NULL,
    sealed BYTEA,
    -- NULL where the text is encrypted.
    words TSVECTOR,
    UNIQUE (chunk_set, number)
);
CREATE INDEX chunks_by_word ON chunks USING GIN (words);
