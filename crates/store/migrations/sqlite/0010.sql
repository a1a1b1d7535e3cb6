-- The place of an item is that of its object, its side and its number in one, so that the items on a side
-- of an object are neighbours, in their order, without an index.
DROP VIEW creations;
CREATE TABLE items_0010 (
    seq INTEGER PRIMARY KEY,
    object BIGINT GENERATED ALWAYS AS (seq >> 28) VIRTUAL,
    side BIGINT GENERATED ALWAYS AS (seq >> 26 & 3) VIRTUAL,
    owner TEXT,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    sealed BLOB
);
INSERT INTO items_0010 (seq, owner, id, body, sealed)
    SELECT (object << 28) + (side << 26) + ROW_NUMBER() OVER (PARTITION BY object, side ORDER BY seq) - 1,
        owner, id, body, sealed
    FROM items ORDER BY object, side, seq;
DROP TABLE items;
ALTER TABLE items_0010 RENAME TO items;
-- An id is once on each side of an object. Each item is in one of these indexes.
CREATE UNIQUE INDEX items_by_id ON items (owner, id, object, side) WHERE owner IS NOT NULL;
CREATE UNIQUE INDEX items_in_an_object ON items (object, side, id) WHERE owner IS NULL;
CREATE TRIGGER delete_items AFTER DELETE ON objects BEGIN
    DELETE FROM items WHERE seq BETWEEN OLD.seq << 28 AND (OLD.seq << 28) + (1 << 28) - 1;
END;

-- The kinds in `listed` of read.rs. Most objects are of other kinds, which are not listed. (`NOT IN` would
-- make a table for each new object.)
DROP INDEX objects_of_an_owner;
CREATE INDEX objects_of_an_owner ON objects (owner, kind, seq)
    WHERE kind <> 'response' AND kind <> 'conversation' AND kind <> 'message';

-- As in 0004, with the places of the items. The number of an item is its place in the list. Labels have
-- a trigger of their own, which does nothing where there are none.
CREATE VIEW labelled AS SELECT id, metadata FROM objects;
CREATE TRIGGER store_labels INSTEAD OF INSERT ON labelled WHEN NEW.metadata <> '{}' BEGIN
    INSERT INTO labels (object, name, value)
        SELECT (SELECT seq FROM objects WHERE id = NEW.id), key, value FROM json_each(NEW.metadata);
END;
CREATE VIEW creations AS
    SELECT id, kind, owner, created, changed, model, metadata, body, sealed, previous, size,
        '[]' AS items, x'' AS bodies
    FROM objects;
CREATE TRIGGER store_creation INSTEAD OF INSERT ON creations BEGIN
    INSERT INTO objects
        (id, kind, owner, created, changed, model, metadata, body, sealed, previous, size)
        VALUES (NEW.id, NEW.kind, NEW.owner, NEW.created, NEW.changed, NEW.model, NEW.metadata,
            NEW.body, NEW.sealed, NEW.previous, NEW.size);
    INSERT INTO labelled (id, metadata) VALUES (NEW.id, NEW.metadata);
    INSERT INTO items (seq, owner, id, body, sealed)
        SELECT ((SELECT seq FROM objects WHERE id = NEW.id) << 28) + ((value ->> 0) << 26) + key,
            CASE WHEN value ->> 1 THEN NEW.owner END,
            value ->> 2,
            CASE WHEN NEW.sealed IS NULL
                THEN CAST(substr(NEW.bodies, value ->> 3, value ->> 4) AS TEXT) ELSE '' END,
            CASE WHEN NEW.sealed IS NOT NULL THEN substr(NEW.bodies, value ->> 3, value ->> 4) END
        FROM json_each(NEW.items);
END;
