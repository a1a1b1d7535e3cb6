-- Responses: a chain of objects, items on several sides, and holds.
ALTER TABLE objects ADD COLUMN previous TEXT;
-- The bytes of the input and output items, so that the length of a chain is known before it is read.
ALTER TABLE objects ADD COLUMN size BIGINT NOT NULL DEFAULT 0;
ALTER TABLE objects ADD COLUMN holder TEXT;
-- In Unix milliseconds.
ALTER TABLE objects ADD COLUMN held_until BIGINT NOT NULL DEFAULT 0;

-- The order of the items is that of `seq`. `owner` is NULL where nobody looks for an item by its id
-- alone: on the messages of chats and the events of streams.
CREATE TABLE items_0002 (
    seq INTEGER PRIMARY KEY,
    object BIGINT NOT NULL REFERENCES objects (seq) ON DELETE CASCADE,
    side SMALLINT NOT NULL,
    owner TEXT,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (object, side, id)
);
INSERT INTO items_0002 (object, side, owner, id, body)
    SELECT items.object, 0, CASE objects.kind WHEN 'conversation' THEN objects.owner END, items.id, items.body
    FROM items JOIN objects ON objects.seq = items.object
    ORDER BY items.object, items.position;
DROP TABLE items;
ALTER TABLE items_0002 RENAME TO items;
CREATE INDEX items_in_order ON items (object, side);
CREATE INDEX items_by_id ON items (owner, id) WHERE owner IS NOT NULL;
