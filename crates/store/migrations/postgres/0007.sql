-- The kinds in `listed` of read.rs. Most objects are of other kinds, which are not listed.
DROP INDEX objects_of_an_owner;
CREATE INDEX objects_of_an_owner ON objects (owner, kind, seq)
    WHERE kind <> 'response' AND kind <> 'conversation' AND kind <> 'message';
