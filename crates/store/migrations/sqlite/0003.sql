-- Encrypted bodies. `body` is empty where `sealed` is not NULL.
ALTER TABLE objects ADD COLUMN sealed BLOB;
ALTER TABLE items ADD COLUMN sealed BLOB;
