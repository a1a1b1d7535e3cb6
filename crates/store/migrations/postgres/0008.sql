-- A text that no other database has.
CREATE TABLE loggia_identity (identity TEXT NOT NULL);
INSERT INTO loggia_identity (identity) VALUES (replace(gen_random_uuid()::text, '-', ''));
