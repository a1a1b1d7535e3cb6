-- Files and uploads: when a server has to look at an object next, in Unix milliseconds, and the bytes
-- of its content outside the database.
ALTER TABLE objects ADD COLUMN due BIGINT;
ALTER TABLE objects ADD COLUMN content BIGINT NOT NULL DEFAULT 0;
CREATE INDEX objects_due ON objects (kind, due, seq) WHERE due IS NOT NULL;
CREATE INDEX objects_with_content ON objects (owner, content) WHERE content > 0;
