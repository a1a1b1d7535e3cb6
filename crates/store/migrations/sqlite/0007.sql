-- API keys that are created while servers run. Revoked keys stay. The sum of `version` grows with
-- every change, except for `used`.
CREATE TABLE api_keys (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    earlier_prefix TEXT,
    earlier_digest TEXT,
    -- In Unix seconds, as the times below; 0 for none.
    earlier_until BIGINT NOT NULL DEFAULT 0,
    settings TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL DEFAULT 0,
    revoked BIGINT NOT NULL DEFAULT 0,
    used BIGINT NOT NULL DEFAULT 0,
    version BIGINT NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX api_keys_by_name ON api_keys (name) WHERE revoked = 0;
