-- An object, its labels and its items are stored by one statement: a row of this view. `items` is a JSON
-- list of [side, whether it is found by its id, id, place of its body, length], `bodies` has the bodies.
CREATE VIEW creations AS
    SELECT id, kind, owner, created, changed, model, metadata, body, sealed, previous, size,
        '[]' AS items, x'' AS bodies
    FROM objects;
CREATE TRIGGER store_creation INSTEAD OF INSERT ON creations BEGIN
    INSERT INTO objects
        (id, kind, owner, created, changed, model, metadata, body, sealed, previous, size)
        VALUES (NEW.id, NEW.kind, NEW.owner, NEW.created, NEW.changed, NEW.model, NEW.metadata,
            NEW.body, NEW.sealed, NEW.previous, NEW.size);
    INSERT INTO labels (object, name, value)
        SELECT (SELECT seq FROM objects WHERE id = NEW.id), key, value FROM json_each(NEW.metadata);
    INSERT INTO items (object, side, owner, id, body, sealed)
        SELECT (SELECT seq FROM objects WHERE id = NEW.id),
            value ->> 0,
            CASE WHEN value ->> 1 THEN NEW.owner END,
            value ->> 2,
            CASE WHEN NEW.sealed IS NULL
                THEN CAST(substr(NEW.bodies, value ->> 3, value ->> 4) AS TEXT) ELSE '' END,
            CASE WHEN NEW.sealed IS NOT NULL THEN substr(NEW.bodies, value ->> 3, value ->> 4) END
        FROM json_each(NEW.items) ORDER BY json_each.rowid;
END;
