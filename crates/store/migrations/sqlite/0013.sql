-- `AUTOINCREMENT` writes to a table of SQLite's own with each new object. Still, no object gets the place of
-- a deleted one: the highest place of the deleted objects is kept here, and only deleting writes to it.
CREATE TABLE deleted_places (highest BIGINT NOT NULL);
INSERT INTO deleted_places (highest)
    SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'objects';
CREATE VIEW next_place AS
    SELECT max(highest, (SELECT COALESCE(MAX(seq), 0) FROM objects)) + 1 AS seq FROM deleted_places;
-- SQLite's documentation has this way to change a table without copying it:
-- https://sqlite.org/lang_altertable.html#otheralter
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, ' AUTOINCREMENT', '') WHERE type = 'table' AND name = 'objects';
PRAGMA writable_schema = RESET;
DELETE FROM sqlite_sequence WHERE name = 'objects';

DROP TRIGGER delete_items;
CREATE TRIGGER delete_items AFTER DELETE ON objects BEGIN
    DELETE FROM items WHERE seq BETWEEN OLD.seq << 28 AND (OLD.seq << 28) + (1 << 28) - 1;
    UPDATE deleted_places SET highest = OLD.seq WHERE highest < OLD.seq;
END;

-- As in 0010, but each creation comes with its place.
DROP VIEW labelled;
CREATE VIEW labelled AS SELECT seq, metadata FROM objects;
CREATE TRIGGER store_labels INSTEAD OF INSERT ON labelled WHEN NEW.metadata <> '{}' BEGIN
    INSERT INTO labels (object, name, value)
        SELECT NEW.seq, key, value FROM json_each(NEW.metadata);
END;
DROP VIEW creations;
CREATE VIEW creations AS
    SELECT seq, id, kind, owner, created, changed, model, metadata, body, sealed, previous, size,
        '[]' AS items, x'' AS bodies
    FROM objects;
CREATE TRIGGER store_creation INSTEAD OF INSERT ON creations BEGIN
    INSERT INTO objects
        (seq, id, kind, owner, created, changed, model, metadata, body, sealed, previous, size)
        VALUES (NEW.seq, NEW.id, NEW.kind, NEW.owner, NEW.created, NEW.changed, NEW.model, NEW.metadata,
            NEW.body, NEW.sealed, NEW.previous, NEW.size);
    INSERT INTO labelled (seq, metadata) VALUES (NEW.seq, NEW.metadata);
    INSERT INTO items (seq, owner, id, body, sealed)
        SELECT (NEW.seq << 28) + ((value ->> 0) << 26) + key,
            CASE WHEN value ->> 1 THEN NEW.owner END,
            value ->> 2,
            CASE WHEN NEW.sealed IS NULL
                THEN CAST(substr(NEW.bodies, value ->> 3, value ->> 4) AS TEXT) ELSE '' END,
            CASE WHEN NEW.sealed IS NOT NULL THEN substr(NEW.bodies, value ->> 3, value ->> 4) END
        FROM json_each(NEW.items);
END;
