CREATE TABLE objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    created BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    model TEXT,
    metadata TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX objects_of_an_owner ON objects (owner, kind, seq);
CREATE INDEX objects_by_age ON objects (changed, seq);

CREATE TABLE items (
    object BIGINT NOT NULL REFERENCES objects (seq) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (object, position),
    UNIQUE (object, id)
);

CREATE TABLE labels (
    object BIGINT NOT NULL REFERENCES objects (seq) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (object, name)
);
CREATE INDEX labels_by_value ON labels (name, value, object);
