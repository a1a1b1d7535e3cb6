CREATE TABLE objects (
    seq BIGSERIAL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    created BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    model TEXT,
    metadata TEXT NOT NULL,
    -- Empty where `sealed`, the encrypted body, is not NULL.
    body TEXT NOT NULL,
    sealed BYTEA,
    previous TEXT,
    -- The bytes of the input and output items, so that the length of a chain is known before it is read.
    size BIGINT NOT NULL DEFAULT 0,
    holder TEXT,
    -- In Unix milliseconds of the database's clock.
    held_until BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX objects_of_an_owner ON objects (owner, kind, seq);
CREATE INDEX objects_by_age ON objects (changed, seq);

-- The order of the items is that of `seq`. `owner` is NULL where nobody looks for an item by its id
-- alone: on the messages of chats and the events of streams.
CREATE TABLE items (
    seq BIGSERIAL PRIMARY KEY,
    object BIGINT NOT NULL REFERENCES objects (seq) ON DELETE CASCADE,
    side BIGINT NOT NULL,
    owner TEXT,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    sealed BYTEA,
    UNIQUE (object, side, id)
);
CREATE INDEX items_in_order ON items (object, side, seq);
CREATE INDEX items_by_id ON items (owner, id, seq) WHERE owner IS NOT NULL;

CREATE TABLE labels (
    object BIGINT NOT NULL REFERENCES objects (seq) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (object, name)
);
CREATE INDEX labels_by_value ON labels (name, value, object);
