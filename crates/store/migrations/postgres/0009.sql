-- The nodes that operators add to backends and take from them. The stamps of all rows together change
-- with every change.
CREATE TABLE backend_nodes (
    backend TEXT NOT NULL,
    place TEXT NOT NULL,
    wish TEXT NOT NULL,
    changed BIGINT NOT NULL,
    stamp BIGINT NOT NULL,
    PRIMARY KEY (backend, place)
);
