-- Charges what a server knows of its own use, after Valkey has lost its data.
--
-- KEYS: the name. ARGV: how far its buckets of requests, tokens and tokens of a day are from full,
-- in microseconds.
local KEPT = 90000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local fields = { { 'requests' }, { 'tokens', 'tokens_settled' }, { 'day', 'day_settled' } }
for i, names in ipairs(fields) do
    local short = tonumber(ARGV[i])
    for _, field in ipairs(names) do
        if short > 0 then
            local full = tonumber(redis.call('HGET', KEYS[1], field) or 0)
            redis.call('HSET', KEYS[1], field, string.format('%.2f', math.max(full, now) + short))
        end
    end
end
redis.call('EXPIRE', KEYS[1], KEPT)
return 0
