-- What each API key has used, by day (since 1970-01-01, UTC) and model.
CREATE TABLE key_usage (
    day BIGINT NOT NULL,
    api_key TEXT NOT NULL,
    model TEXT NOT NULL,
    requests BIGINT NOT NULL,
    incomplete BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    PRIMARY KEY (day, api_key, model)
);
