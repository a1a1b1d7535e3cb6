-- Lets a request in under all of its names, or under none. Each name is a hash whose values are
-- those of a `Bucket` (bucket.rs), in microseconds of this server's clock, so that replicas need
-- no common one.
--
-- KEYS: the names. ARGV: the tokens, the replica; then for each name its limits, 0 for none:
-- requests a minute, tokens a minute, tokens a day, answers at once.
--
-- Returns 1 or 0, the number of the name and of the limit that refuses, the wait in microseconds
-- (-1: for ever); then for each name how far its three buckets are from full.
local MINUTE, DAY = 60000000, 86400000000
local PLACE_WAIT, KEPT = 1000000, 90000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tokens, replica = tonumber(ARGV[1]), ARGV[2]

local function wait(full, amount, limit, period)
    if limit == 0 then return 0 end
    if amount > limit then return math.huge end
    return math.max(full, now) + amount * period / limit - now - period
end

local function streams(key)
    local all, sum = redis.call('HGETALL', key .. ':streams'), 0
    for j = 1, #all, 2 do
        if redis.call('EXISTS', 'loggia:replica:' .. all[j]) == 1 then
            sum = sum + math.max(0, tonumber(all[j + 1]))
        else
            redis.call('HDEL', key .. ':streams', all[j])
        end
    end
    return sum
end

local names, worst, refused = {}, 1, nil
for i, key in ipairs(KEYS) do
    local limits = {}
    for kind = 1, 4 do limits[kind] = tonumber(ARGV[2 + (i - 1) * 4 + kind]) end
    local s = redis.call('HMGET', key, 'requests', 'tokens', 'tokens_reserved', 'day', 'day_reserved')
    for j = 1, 5 do s[j] = tonumber(s[j] or 0) end
    names[i] = { key = key, limits = limits, state = s }
    local waits = {
        wait(s[1], 1, limits[1], MINUTE),
        wait(s[2], tokens, limits[2], MINUTE),
        wait(s[4], tokens, limits[3], DAY),
        (limits[4] > 0 and streams(key) >= limits[4]) and PLACE_WAIT or 0,
    }
    for kind = 1, 4 do
        if waits[kind] > worst then
            worst, refused = waits[kind], { i, kind }
        end
    end
end

if not refused then
    for _, name in ipairs(names) do
        local key, limits, s = name.key, name.limits, name.state
        local values = {}
        local function set(field, value)
            values[#values + 1] = field
            values[#values + 1] = string.format('%.2f', value)
        end
        if limits[1] > 0 then
            s[1] = math.max(s[1], now) + MINUTE / limits[1]
            set('requests', s[1])
        end
        if limits[2] > 0 then
            s[2] = math.max(s[2], now) + tokens * MINUTE / limits[2]
            set('tokens', s[2])
            set('tokens_reserved', s[3] + tokens)
        end
        if limits[3] > 0 then
            s[4] = math.max(s[4], now) + tokens * DAY / limits[3]
            set('day', s[4])
            set('day_reserved', s[5] + tokens)
        end
        if #values > 0 then
            redis.call('HSET', key, unpack(values))
            redis.call('EXPIRE', key, KEPT)
        end
        if limits[4] > 0 then
            redis.call('HINCRBY', key .. ':streams', replica, 1)
            redis.call('EXPIRE', key .. ':streams', KEPT)
        end
    end
end

local answer = { 1, 0, 0, 0 }
if refused then
    answer = { 0, refused[1], refused[2], worst == math.huge and -1 or math.ceil(worst) }
end
for _, name in ipairs(names) do
    for _, field in ipairs({ 1, 2, 4 }) do
        answer[#answer + 1] = math.ceil(math.max(0, name.state[field] - now))
    end
end
return answer
